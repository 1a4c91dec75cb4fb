/** What Pulumi 3.200 printed, recorded (test/golden/pulumi), and what gpuctl makes of it. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { EventReader } from "../../cli/src/domain/infra/events.js";
import { cutOffText } from "../../cli/src/domain/infra/cut-off.js";
import { explain } from "../../cli/src/domain/infra/explain.js";
import { parsePreview, type Change, type Diagnostic } from "../../cli/src/domain/infra/preview.js";
import { kindOf, resourceOf } from "../../cli/src/domain/infra/resource.js";
import { parseState } from "../../cli/src/domain/infra/state.js";

const recorded = (name: string): string => readFileSync(new URL(`../golden/pulumi/${name}`, import.meta.url), "utf8");
const doing = {
  stack: "prod",
  again: "gpuctl infra up --stack prod",
  directory: "/home/ann/shop",
  backend: "file:///home/ann/state",
  givenBackend: null,
  platform: "linux-amd64",
};
const errorsIn = (name: string): Diagnostic[] =>
  (parsePreview(recorded(name))?.diagnostics ?? []).filter(({ severity }) => severity === "error");

describe("a preview", () => {
  test("of a new stack is what would be made, without the stack itself and its providers", () => {
    const preview = parsePreview(recorded("preview.json"))!;
    expect(preview.changes.map(({ op, type, name, id }) => [op, type, name, id])).toEqual([
      ["create", "hcloud:index/volume:Volume", "models", null],
      ["create", "hcloud:index/network:Network", "net", null],
      ["create", "hcloud:index/server:Server", "web", null],
    ]);
    expect(preview.changes.at(-1)?.inputs).toMatchObject({ serverType: "cx23", location: "fsn1" });
  });

  test("counts a replacement once, with its reason", () => {
    const preview = parsePreview(recorded("preview-replace.json"))!;
    expect(preview.changes).toMatchObject([{ op: "replace", name: "net", because: ["ipRange"], protected: false }]);
    expect(preview.same).toBe(2);
  });

  test("of a destroy names what is lost with the provider's number, and leaves out what is kept", () => {
    const all = parsePreview(recorded("destroy-preview.json"))!;
    expect(new Set(all.changes.map(({ op, name, id }) => `${op} ${name} ${id ?? ""}`))).toEqual(
      new Set(["delete web 1003", "delete net 1002", "delete models 1001"]),
    );
    const kept = parsePreview(recorded("destroy-preview-kept.json"))!;
    expect(kept.changes.map(({ name }) => name)).toEqual(["web", "net"]);
  });

  test("that is no preview is none", () => {
    for (const text of ["", "{", "[]", '{"steps":3}']) expect(parsePreview(text)).toBeNull();
  });
});

test("events of an update become lines for people: no plumbing, no debug, no chatter, and the summary", () => {
  const reader = new EventReader();
  const told = recorded("up.jsonl")
    .split("\n")
    .flatMap((line) => reader.read(line) ?? []);
  const steps = told.flatMap((one) => (one.kind === "step" ? [one.text.replace(/ \(\d+ s\)$/, "")] : []));
  expect([...steps].sort()).toEqual(
    [
      "creating network net",
      "creating server web",
      "creating volume models",
      "network net: created",
      "server web: created",
      "volume models: created",
    ].sort(),
  );
  expect(told.filter(({ kind }) => kind === "diagnostic")).toEqual([
    { kind: "diagnostic", diagnostic: { about: null, severity: "info", message: "a word of the program" } },
  ]);
  expect(told.at(-1)).toMatchObject({ kind: "summary", summary: { changes: { create: 4 } } });
});

test("a state gives resources with their numbers and outputs without secrets, and needs no passphrase for it", () => {
  const state = parseState(recorded("state-protected.json"))!;
  expect(state.resources.map(({ type, name, protected: kept }) => [type, name, kept])).toEqual(
    expect.arrayContaining([
      ["hcloud:index/server:Server", "web", false],
      ["hcloud:index/volume:Volume", "models", true],
    ]),
  );
  expect(state.resources).toHaveLength(3);
  expect(state.outputs).toMatchObject({
    joinToken: "[secret]",
    inventory: { stack: "prod", nodes: { web: { host: "203.0.113.7" } } },
  });
  expect(parseState("{}")).toBeNull();
});

test("resources are named by the last part of their type", () => {
  expect(resourceOf("urn:pulumi:prod::shop::gpuctl:index:HcloudHost$hcloud:index/primaryIp:PrimaryIp::web::4")).toEqual({
    type: "hcloud:index/primaryIp:PrimaryIp",
    name: "web::4",
  });
  expect(kindOf("hcloud:index/primaryIp:PrimaryIp")).toBe("primary IP");
  expect(kindOf("hcloud:index/sshKey:SshKey")).toBe("SSH key");
  expect(kindOf("kubernetes:helm.sh/v3:Release")).toBe("release");
});

describe("a failure is explained", () => {
  test("a plugin that is not installed: the exact version, with and without the internet", () => {
    const { kind, message, nextSteps } = explain(errorsIn("preview-plugin.json"), "", doing);
    expect([kind, message]).toEqual(["refused", "Pulumi's plugin hcloud 1.41.0 is not installed"]);
    expect(nextSteps[0]).toBe("pulumi plugin install resource hcloud v1.41.0");
    expect(nextSteps[1]).toContain(
      "pulumi plugin install resource hcloud v1.41.0 --file pulumi-resource-hcloud-v1.41.0-linux-amd64.tar.gz",
    );
    expect(nextSteps.at(-1)).toBe(doing.again);
  });

  test("a plugin that could not be downloaded: the same command", () => {
    const message =
      "Could not automatically download and install resource plugin 'pulumi-resource-command' at version v1.2.1, install the plugin using `pulumi plugin install resource command v1.2.1`: no such host";
    const found = explain([{ about: null, severity: "error", message }], "", doing);
    expect([found.message, found.nextSteps[0]]).toEqual([
      "Pulumi's plugin command 1.2.1 is not installed",
      "pulumi plugin install resource command v1.2.1",
    ]);
  });

  test("a refusal of the program: every line as it was written", () => {
    const { kind, message, nextSteps } = explain(errorsIn("preview-refused.json"), "", doing);
    expect(kind).toBe("config");
    expect(message).toContain(
      "the configuration of the stack has 2 problems\n  nodes[0].type: gx11 is no type\n  nodes[1].name: expected a name",
    );
    expect(nextSteps[0]).toContain("Pulumi.prod.yaml");
  });

  test("a program that throws: its message without the stack trace", () => {
    const { kind, message } = explain(errorsIn("preview-crash.json"), "", doing);
    expect(kind).toBe("config");
    expect(message).toContain("config shop:nodes is wrong:\n  nodes[0].type: gx11 is no type");
    expect(message).not.toContain("node_modules");
  });

  test("a host that does not answer: whose address its own list still has, and what opens it from the console", () => {
    const about = { type: "command:remote:Command", name: "gpu-1-prepare" };
    const message = "dial: dial tcp 203.0.113.20:22: i/o timeout";
    const { nextSteps } = explain([{ about, severity: "error", message }], "", doing);
    expect(nextSteps[1]).toContain("name the old address and the new one together");
    expect(nextSteps[2]).toContain("echo GPUCTL_SSH_ADDRESSES=NEW/32 | bash /var/lib/gpuctl/host/prepare-host.sh -");
  });

  test("a server that cannot be placed, by the resource it is about", () => {
    const reader = new EventReader();
    const errors = recorded("up-unavailable.jsonl")
      .split("\n")
      .flatMap((line) => {
        const told = reader.read(line);
        return told?.kind === "diagnostic" && told.diagnostic.severity === "error" ? [told.diagnostic] : [];
      });
    const { kind, message, nextSteps } = explain(errors, "", doing);
    expect([kind, message]).toEqual(["failed", "server web cannot be had in this location now"]);
    expect(nextSteps.at(-1)).toBe(doing.again);
  });

  test("a server without a place", () => {
    const about = { type: "hcloud:index/server:Server", name: "web" };
    const message = "no place (placement_error, 1d1d17e504e28a4c)";
    expect(explain([{ about, severity: "error", message }], "", doing).message).toBe("server web has no place now");
  });

  test("a server whose type could not be changed may be off: how to power it on comes first", () => {
    const about = { type: "hcloud:index/server:Server", name: "web" };
    const message = "error during placement (resource_unavailable, 1d1d17e504e28a4c)";
    const change = { ...about, op: "update", id: "4711", protected: false, because: ["serverType"], inputs: {} } as const;
    const stepsWith = (planned: readonly Change[]) =>
      explain([{ about, severity: "error", message }], "", doing, planned).nextSteps;
    expect(stepsWith([change])[0]).toMatch(/^server web may be off now, with its old type: hcloud server poweron 4711,/);
    for (const other of [
      { ...change, because: ["labels"] },
      { ...change, op: "create" as const },
      { ...change, name: "other" },
    ])
      expect(stepsWith([other]).join()).not.toContain("poweron");
  });

  const stderrOf = (kind: string, message: string, text: string, step: string): [string, string, string, string] => [
    kind,
    message,
    text,
    step,
  ];
  test.each([
    stderrOf(
      "refused",
      "the stack prod is locked",
      "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the lock file with `pulumi cancel`.\n  file:///home/ann/state/.pulumi/locks/organization/shop/prod/abc.json?no_tmp_dir=true: created by ann@laptop (pid 4711) at 2026-11-21T08:00:00Z\n",
      "when it was killed: cd /home/ann/shop && pulumi cancel --yes --stack prod",
    ),
    stderrOf(
      "refused",
      "the passphrase of the stack prod is not given",
      "error: getting stack configuration: get stack secrets manager: passphrase must be set with PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE environment variables\n",
      "or export PULUMI_CONFIG_PASSPHRASE=...",
    ),
    stderrOf(
      "refused",
      "the passphrase is not that of the stack prod",
      "error: getting stack configuration: get stack secrets manager: incorrect passphrase\n",
      "cd /home/ann/shop && pulumi stack export --stack prod > prod.json   # ids of all that was made, for pulumi import",
    ),
    stderrOf(
      "refused",
      "Pulumi's language host for nodejs is not there",
      "error: failed to load language plugin nodejs: no language plugin 'pulumi-language-nodejs' found in the workspace or on your $PATH\n",
      "install Pulumi again: https://www.pulumi.com/docs/install/",
    ),
    stderrOf(
      "refused",
      "there is no stack prod in file:///home/ann/state",
      "error: no stack named 'prod' found\n",
      "gpuctl infra up --stack prod   # makes it",
    ),
    stderrOf(
      "unreachable",
      "the state in file:///home/ann/state cannot be reached",
      "error: unable to open bucket file:///nonexistent?no_tmp_dir=true: stat /nonexistent: no such file or directory\n",
      "infra: { backend: ... } in gpuctl.yaml, or PULUMI_BACKEND_URL, names where it is",
    ),
    stderrOf("failed", "Pulumi failed", "error: something nobody has seen\n", doing.again),
  ])("%s: %s", (kind, message, stderr, step) => {
    const found = explain([], stderr, doing);
    expect([found.kind, found.message]).toEqual([kind, message]);
    expect(found.nextSteps).toContain(step);
  });

  test("who holds a lock, and since when", () => {
    const stderr =
      "error: the stack is currently locked by 1 lock(s). Either wait.\n  file:///s/x.json: created by ann@laptop (pid 4711) at 2026-11-21T08:00:00Z\n";
    expect(explain([], stderr, doing).because).toBe("by ann@laptop (pid 4711) since 2026-11-21T08:00:00Z");
  });

  test.each([
    [
      "server limit exceeded (resource_limit_exceeded, 1d1d17e504e28a4c)",
      "the limit of the project is reached at server web",
      "gpuctl infra gc   # what was left behind counts too",
    ],
    [
      "limit of 3600 requests per hour reached (rate_limit_exceeded, 9f2)",
      "the provider takes no more requests for now",
      doing.again,
    ],
    ["server responded with status code 503", "the provider has trouble of its own", "https://status.hetzner.com"],
    ["unable to authenticate (unauthorized, 9f2)", "the provider refuses the token", doing.again],
    ["server is locked (locked, 9f2)", "server web is busy", doing.again],
    ["server name is already used (uniqueness_error, 9f2)", "the name or the key of server web is taken", doing.again],
    ["unavailable (unavailable, 9f2)", "the provider has trouble of its own", "https://status.hetzner.com"],
    ["disk on fire", "server web could not be changed", doing.again],
  ])("of the provider: %s", (text, message, step) => {
    const about = { type: "hcloud:index/server:Server", name: "web" };
    const found = explain([{ about, severity: "error", message: text }], "", doing);
    expect(found.message).toBe(message);
    expect(found.nextSteps).toContain(step);
  });

  test("what a killed change left in doubt: what to look for, and what ends the doubt without a terminal", () => {
    const message =
      "Attempting to deploy or update resources with 1 pending operations from previous deployment.\n  * urn:pulumi:prod::shop::gpuctl:HcloudHost$hcloud:index/server:Server::web, interrupted while creating\nThese resources are in an unknown state";
    expect(cutOffText(message)).toContain("does not know what became of server web (creating)");
    const about = { type: "hcloud:index/server:Server", name: "web" };
    const found = explain(
      [
        { about: null, severity: "warning", message },
        { about, severity: "error", message: "server name is already used (uniqueness_error, 9f2)" },
      ],
      "",
      doing,
    );
    expect(found.message).toBe("the name or the key of server web is taken");
    expect(found.nextSteps.map((step) => step.replace(/ +#.*/, "").replace(/^cd .* pulumi/, "pulumi"))).toEqual([
      "gpuctl infra gc",
      "pulumi refresh --yes --clear-pending-creates --stack prod",
      doing.again,
    ]);
  });

  test("a plugin of the wrong version", () => {
    const warning =
      "resource plugin hcloud is expected to have version >=1.41.0, but has 1.20.0; the wrong version may be on your path";
    const install = "pulumi plugin install resource hcloud v1.41.0   # the plugin is 1.20.0, the program needs 1.41.0 or newer";
    const said: Diagnostic[] = [
      { about: null, severity: "warning", message: warning },
      { about: { type: "hcloud:index/server:Server", name: "web" }, severity: "error", message: "unknown field" },
    ];
    const old = explain(said, "", doing);
    expect([old.message, old.nextSteps[0]]).toEqual(["server web could not be changed", install]);
  });

  test("the provider's own code is known wherever it stands", () => {
    const message = "invocation of hcloud:index/getImage:getImage returned an error: no (token_readonly, 1d1d17e504e28a4c)";
    expect(explain([{ about: null, severity: "error", message }], "", doing).because).toBe("it may only read");
  });
});
