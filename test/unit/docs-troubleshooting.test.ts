/** docs/guides/troubleshooting.md has every message of doctor, word for word, and none that doctor does not print; and every reason of a service. */
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { beforeAll, describe, expect, test } from "vitest";
import { dockerError } from "../../cli/src/adapters/targets/compose/docker-errors.js";
import { judgeFromOutside, type Evidence } from "../../cli/src/domain/compose/device-proof.js";
import type { DoctorFinding } from "../../cli/src/domain/doctor/finding.js";
import { findingsHere, findingsOfPorts } from "../support/doctor-findings.js";
import { findingsOfNodes } from "../support/node-findings.js";
import { entriesOf, matcherOf, normal, tableOf, type Entry } from "../support/troubleshooting-page.js";

const source = (path: string): string => readFileSync(new URL(`../../cli/src/${path}`, import.meta.url), "utf8");
const page = readFileSync(new URL("../../docs/guides/troubleshooting.md", import.meta.url), "utf8");
const [beforeDeploy = "", ofDeploy = ""] = page.split("\n## When `plan` or `deploy` refuses\n");
const entries = entriesOf(beforeDeploy.split("\n## Messages of `gpuctl doctor`\n")[1] ?? "");

let findings: readonly DoctorFinding[] = [];

beforeAll(async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  findings = [...findingsHere(), ...(await findingsOfNodes()), ...(await findingsOfPorts(port))];
  await new Promise((resolve) => server.close(resolve));
});

const bad = (): readonly DoctorFinding[] => findings.filter(({ level }) => level !== "ok");
const entryOf = ({ code, what }: DoctorFinding): Entry | undefined =>
  entries.find(({ codes, messages }) => codes.includes(code) && messages.some((message) => matcherOf(message).test(what)));

test("every warning and blocker of doctor has an entry with its code and its words", () => {
  const without = bad().filter((finding) => entryOf(finding) === undefined);
  expect([...new Set(without.map(({ code, what }) => `${code}: ${what}`))]).toEqual([]);
});

test("every code and every message on the page is one that doctor prints", () => {
  const printed = entries.flatMap(({ codes, messages }) => {
    const own = bad().filter(({ code }) => codes.includes(code));
    return [
      ...codes.filter((code) => !own.some((finding) => finding.code === code)),
      ...messages.filter((message) => !own.some(({ what }) => matcherOf(message).test(what))),
    ];
  });
  expect(printed).toEqual([]);
});

test("no code has two entries", () => {
  const codes = entries.flatMap((entry) => entry.codes);
  expect(codes.filter((code, index) => codes.indexOf(code) !== index)).toEqual([]);
});

test("the page says whether a message stops a deploy", () => {
  const wrong = entries.flatMap(({ codes, levels }) => {
    const seen = new Set(bad().flatMap(({ code, level }) => (codes.includes(code) ? [level] : [])));
    return [...seen].sort().join(" or ") === levels ? [] : [`${codes.join(", ")}: ${[...seen].sort().join(" or ")}`];
  });
  expect(wrong).toEqual([]);
});

test("the variations above reach every code that is written in the sources of doctor", () => {
  const files = ["domain/preflight", "domain/doctor"].flatMap((folder) =>
    readdirSync(new URL(`../../cli/src/${folder}/`, import.meta.url)).map((name) => `${folder}/${name}`),
  );
  const raised =
    /\b(?:warning|blocker|level|missing|levelFor\(missing\))\(\s*"[A-Za-z]+",\s*(?:[^"`,]+\? )?["`]([a-z0-9${}-]+)["`](?: : "([a-z0-9-]+)")?/g;
  const explained = /\bcode: "([a-z0-9-]+)"|return \[\s*"([a-z0-9-]+)",/g;
  const codes = [...files, "app/doctor-nodes.ts", "adapters/targets/process/port-findings.ts"].flatMap((file) =>
    [raised, explained].flatMap((pattern) =>
      [...source(file).matchAll(pattern)].flatMap((match) => match.slice(1).filter(Boolean)),
    ),
  );
  const known = new Set(findings.map(({ code }) => code));
  const all = codes.flatMap((code) => ["state", "models", "cache"].map((purpose) => code.replace("${purpose}", purpose)));
  expect(new Set(all).size).toBeGreaterThan(100);
  expect([...new Set(all)].filter((code) => !known.has(code))).toEqual([]);
});

test("every entry says what it means, what to type, how to check and when to ask for help", () => {
  const all = [...entries, ...entriesOf(ofDeploy)];
  const labels = ["At 3 a.m.", "Type", "Check", "Ask for help"];
  expect(all.filter((entry) => entry.labels.join() !== labels.join()).map(({ codes }) => codes)).toEqual([]);
  expect(page.match(/^### .*$/gm)?.length).toBe(all.length + 2);
});

test("the reasons of a degraded service are those of engines and of an index's copy on a GPU", () => {
  const services = new URL("../../compose/services/src/gpuctl_serving/", import.meta.url);
  const reasons = ["engines/state.py", "index/ann/replica/told.py"].flatMap((file) => {
    const [, listed = ""] = /^Reason = Literal\[\n([^\]]*)\]/m.exec(readFileSync(new URL(file, services), "utf8")) ?? [];
    const words = [...listed.matchAll(/"([a-z-]+)"/g)].map(([, word = ""]) => word);
    expect([file, words.length > 4]).toEqual([file, true]);
    return words;
  });
  const rows = tableOf(page, "reason").flatMap(([cell = ""]) => [...cell.matchAll(/`([a-z-]+)`/g)].map(([, word = ""]) => word));
  expect(rows.sort()).toEqual([...new Set(reasons)].sort());
});

describe("what plan and deploy say", () => {
  const compose = ["host-preflight.ts", "deliveries.ts"].map((file) => `adapters/targets/compose/${file}`);
  const files = [...compose, "adapters/targets/process/preflight.ts"];
  const own = entriesOf(ofDeploy).flatMap(({ codes, messages }) =>
    codes.flatMap((code) => messages.map((message) => `${code}: ${normal(message)}`)),
  );

  test("every finding of the targets' own preflight has an entry", () => {
    const written = files.flatMap((file) => findingsWritten(source(file)));
    expect(written.length).toBeGreaterThan(8);
    expect(written.filter((one) => !own.includes(one))).toEqual([]);
    const thrown = [...source(files[2] ?? "").matchAll(/(?:asBlocker|return blocker)\("([a-z-]+)"/g)].map(
      (match) => match[1] ?? "",
    );
    expect(thrown.sort()).toEqual(["code-missing", "model-missing", "python-missing", "state-not-writable"]);
    // Their words are those of the error that is caught.
    const words = [source(files[2] ?? ""), source("adapters/targets/process/staging.ts")].join("\n");
    const others = own.filter((one) => !written.includes(one));
    expect(others.map((one) => one.split(": ")[0])).toEqual([
      "state-not-writable",
      "python-missing",
      "code-missing",
      "model-missing",
    ]);
    const said = words.replaceAll(/\$\{[^}]*\}/g, "<>");
    expect(others.filter((one) => !said.includes(one.replace(/^[a-z-]+: /, "").replace(/(?<=written): <>$/, "")))).toEqual([]);
  });

  test("every reason of Docker that is known has a row, with the words that are looked for", () => {
    const rows = tableOf(ofDeploy, "Docker's words");
    const attempt = { node: "gpu-1", failure: "it could not be started", root: "/var/lib/gpuctl/shop/prod" };
    const unknown = dockerError(attempt, { code: 1, signal: null, stdout: "", stderr: "something new" });
    expect(rows).toHaveLength(source("adapters/targets/compose/docker-errors.ts").match(/\bpattern:\s+\//g)?.length ?? 0);
    for (const [words = "", meaning = ""] of rows)
      for (const [, stderr = ""] of words.matchAll(/`([^`]+)`/g)) {
        const error = dockerError(attempt, { code: 1, signal: null, stdout: "", stderr });
        expect(error.nextSteps, stderr).not.toEqual(unknown.nextSteps);
        const exit = { TargetUnreachable: "4", PreflightRefused: "5" }[error.name];
        expect([stderr, /exit code (\d)/.exec(meaning)?.[1]]).toEqual([stderr, exit]);
      }
  });

  test("the refusals of the device proof stand there in its words", () => {
    const told = proofs.map((evidence) => judgeFromOutside(evidence).detail);
    const rows = tableOf(ofDeploy, "the gate says").map(([words = ""]) => matcherOf(words.replaceAll("`", "")));
    expect(rows).toHaveLength(proofs.length);
    const opens = (row: RegExp, detail: string): boolean => new RegExp(row.source.replace(/\$$/, "")).test(detail);
    expect(rows.map((row) => told.filter((detail) => opens(row, detail)).length)).toEqual(rows.map(() => 1));
  });
});

const good: Evidence = {
  reserved: ["GPU-8a56d2c4"],
  own: { device: "cuda", level: "self", providers: ["torch-cuda"], canary: { ok: true } },
  pids: [41253],
  apps: { before: [], during: [{ uuid: "GPU-8a56d2c4", pid: 41253, usedMiB: 2400 }] },
  neighbours: [],
  neighboursMiB: null,
  used: { before: 1300, during: 3700 },
  expectedMiB: 2300,
  required: "self",
};

/** One for each way in which the proof fails. */
const proofs: readonly Evidence[] = [
  { ...good, own: { ...good.own, canary: { ok: false, detail: "cosine 0.4" } } },
  { ...good, own: { ...good.own, device: "cpu" } },
  { ...good, apps: { before: [], during: [{ uuid: "GPU-0", pid: 41253, usedMiB: 2400 }] } },
  { ...good, apps: { before: [], during: [{ uuid: "GPU-8a56d2c4", pid: 41253, usedMiB: 70 }] } },
  { ...good, apps: { before: [], during: [] }, used: { before: 1300, during: 1310 } },
  { ...good, apps: { before: [], during: [{ uuid: "GPU-8a56d2c4", pid: 7, usedMiB: 9 }] }, used: { before: null, during: null } },
  { ...good, apps: { before: [], during: [] }, required: "process" },
];

/** `code: message` of the findings that a source writes out; what is inserted is `<>`. */
function findingsWritten(text: string): string[] {
  return text.split(/^(?:async )?(?:export )?(?:async )?(?=function |const )/m).flatMap((body) => {
    const constants = new Map([...body.matchAll(/const (\w+) = `([^`]*)`/g)].map((match) => [match[1] ?? "", match[2] ?? ""]));
    const filled = (what: string): string => what.replaceAll(/\$\{(\w+)\}/g, (all, name: string) => constants.get(name) ?? all);
    const written = /(?<!level: "ok", )code: "([a-z-]+)",\s*what(?:: (?:`([^`]*)`|"([^"]*)"|(\w+)))?,/g;
    return [...body.matchAll(written)].map(([, code = "", template, plain, name]) => {
      const what = template ?? plain ?? constants.get(name ?? "what") ?? "";
      return `${code}: ${filled(what).replaceAll(/\$\{(?:[^{}]|\{[^{}]*\})*\}/g, "<>")}`;
    });
  });
}
