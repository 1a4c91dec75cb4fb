import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { probeNames, readAnswers, scriptBegin, scriptEnd } from "../../../cli/src/domain/preflight/answers.js";
import { judgeNode } from "../../../cli/src/domain/preflight/judge.js";
import { planFixes } from "../../../cli/src/domain/preflight/fixes.js";
import { readPublished } from "../../../cli/src/domain/preflight/read-docker.js";
import { readNodeFacts } from "../../../cli/src/domain/preflight/read-facts.js";
import { factsOf, machines, moment, needs, nodes, outputOf, type Capture, type Changes } from "./captures.js";

const clock = { asked: moment, answered: moment + 500 };

test.each([...nodes, ...machines])("%s is read as recorded", async (name) => {
  await expect(`${JSON.stringify(factsOf(name), null, 2)}\n`).toMatchFileSnapshot(`../../golden/preflight/${name}.json`);
});

test("the same answers with CRLF line ends, and with the greeting of a login shell before them, are the same facts", () => {
  const output = outputOf("t4-ubuntu");
  const expected = factsOf("t4-ubuntu");
  expect(readNodeFacts(output.replaceAll("\n", "\r\n"), null, clock)).toEqual(expected);
  expect(readNodeFacts(`Welcome to gpu-1!\nLast login: clock begin${output}`, null, clock)).toEqual(expected);
});

test("what a tool prints cannot pass for another probe's record", () => {
  const forged = `root\n\nidentity ${Buffer.from("0\nroot\nroot\n\n0").toString("base64")} b\n${scriptEnd}\n`;
  const facts = factsOf("no-rights", { memory: [0, forged], "os-release": [0, forged] });
  expect(facts.access.user).toMatchObject({ seen: true, value: { name: "guest" } });
  expect(facts.memory.seen).toBe(false);
});

describe("an output that ends early", () => {
  const output = outputOf("t4-ubuntu");

  test("keeps what was said, and says what was being asked", () => {
    const cut = output.slice(0, output.indexOf("smi-query begin") + "smi-query begin\n".length);
    const facts = readNodeFacts(cut, "it took longer than 150 s", clock);
    expect(facts.incomplete).toBe("it took longer than 150 s");
    expect(facts.docker.state).toBe("reachable");
    expect(facts.smi).toEqual({
      state: "failed",
      detail: "it was asked and had not answered when the output ended: it took longer than 150 s",
    });
    expect(facts.gpuProcesses).toEqual({ seen: false, because: "it was not asked: it took longer than 150 s" });
  });

  test("is one wherever it is cut", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: output.length - 2 }), (length) => {
        expect(readNodeFacts(output.slice(0, length), null, clock).incomplete).not.toBeNull();
      }),
      { numRuns: 60 },
    );
  });

  test("that is not the script's at all says so", () => {
    expect(readNodeFacts("bash: sh: command not found\n", null, clock).incomplete).toBe(
      "the output is not that of the preflight script",
    );
  });
});

test("a record that was cut off at the script's own limit is an answer without sense, not half of one", () => {
  const long = Buffer.from("x".repeat(50)).toString("base64");
  const answers = readAnswers(`${scriptBegin}\nkernel b${long} b\nmemory b!!! b\nufw xzz x\n${scriptEnd}\n`, null);
  expect(answers.of("kernel")).toEqual({ state: "missing", because: "its output is too long" });
  expect(answers.of("memory")).toEqual({ state: "missing", because: "its record cannot be read" });
  expect(answers.of("ufw")).toEqual({ state: "missing", because: "its record cannot be read" });
});

test("hexadecimal records, of hosts without base64, are read", () => {
  const hex = Buffer.from("active\n0").toString("hex");
  expect(readAnswers(`ufw x${hex} x\n${scriptEnd}\n`, null).of("ufw")).toEqual({
    state: "answered",
    code: 0,
    stdout: "active",
    stderr: "",
  });
});

const said = fc.tuple(
  fc.constantFrom(0, 0, 0, 1, 124, 126, 127, 255),
  fc.oneof(
    fc.string({ unit: "binary", maxLength: 60 }),
    fc.string({ maxLength: 200 }),
    fc.constantFrom("", "\n", "{}", "null", "[]", "GPU-,,,"),
  ),
  fc.string({ maxLength: 60 }),
);

test("no answer of any tool makes the reader, the judge or the plan of repairs throw, and every finding says what to type", () => {
  const changes = fc.dictionary(fc.constantFrom(...probeNames), said, { minKeys: 1, maxKeys: 12 }) as fc.Arbitrary<Changes>;
  const names: readonly Capture[] = ["t4-ubuntu", "wsl2"];
  fc.assert(
    fc.property(fc.constantFrom(...names), changes, (name, changed) => {
      const facts = factsOf(name, changed);
      planFixes(facts, needs);
      for (const finding of judgeNode(facts, needs)) {
        if (finding.level === "ok") continue;
        expect(finding.because, finding.code).toBeTruthy();
        expect(finding.nextSteps?.length, finding.code).toBeGreaterThan(0);
      }
    }),
    { numRuns: 300 },
  );
});

test("noise in a record's own JSON is read like any other noise", () => {
  const json = fc.json({ maxDepth: 3 });
  fc.assert(
    fc.property(json, json, json, (version, info, row) => {
      const facts = factsOf("t4-ubuntu", { "docker-version": [0, version], "docker-info": [0, info], "docker-ps": [0, row] });
      expect(judgeNode(facts, needs).length).toBeGreaterThan(5);
    }),
  );
});

describe("clocks", () => {
  const skew = (date: string, answered = moment + 500): unknown => {
    const facts = readNodeFacts(outputOf("t4-ubuntu", { clock: [0, date] }), null, { asked: moment, answered });
    return facts.clock.seen ? [facts.clock.value.skewMs, facts.clock.value.boundMs] : facts.clock.because;
  };

  test("the round trip is taken out, and half of it is the doubt", () => {
    expect(skew("1795257990.250000000")).toEqual([0, 251]);
    expect(skew("1795257995.250000000")).toEqual([5000, 251]);
    expect(skew("1795257980.000", moment + 4000)).toEqual([-12_000, 2001]);
  });

  test("a date without fractions, as of BusyBox, is in doubt by a second more; a comma is a point", () => {
    expect(skew("1795257990.%N")).toEqual([250, 750]);
    expect(skew("1795257990")).toEqual([250, 750]);
    expect(skew("1795257990,250000000")).toEqual([0, 251]);
  });

  test("the true difference is always within the bound", () => {
    const times = fc.record({
      truth: fc.integer({ min: -1e6, max: 1e6 }),
      there: fc.integer({ min: 0, max: 3000 }),
      back: fc.integer({ min: 0, max: 3000 }),
    });
    fc.assert(
      fc.property(times, ({ truth, there, back }) => {
        const theirs = moment + there + truth;
        const date = `${Math.floor(theirs / 1000).toString()}.${(theirs % 1000).toString().padStart(3, "0")}`;
        const facts = readNodeFacts(outputOf("t4-ubuntu", { clock: [0, date] }), null, {
          asked: moment,
          answered: moment + there + back,
        });
        const read = facts.clock.seen ? facts.clock.value : null;
        expect(Math.abs((read?.skewMs ?? Infinity) - truth)).toBeLessThanOrEqual(read?.boundMs ?? 0);
      }),
    );
  });

  test("garbage is not a time", () => {
    expect(skew("Sa 21. Nov 10:22:12 UTC 2026")).toBe("date says nothing of use");
  });
});

test("published ports: ranges, both families, and what is only exposed", () => {
  expect(
    readPublished(
      "0.0.0.0:8001->8001/tcp, [::]:8001->8001/tcp, :::90->80/tcp, 9000/tcp, 127.0.0.1:7000-7001->7000-7001/tcp, 10.0.0.5:53->53/udp",
    ),
  ).toEqual([
    { address: "0.0.0.0", port: 8001 },
    { address: "::", port: 8001 },
    { address: "::", port: 90 },
    { address: "127.0.0.1", port: 7000 },
    { address: "127.0.0.1", port: 7001 },
  ]);
  expect(readPublished("0.0.0.0:9->1/tcp, 0.0.0.0:70000-80000->1/tcp")).toEqual([{ address: "0.0.0.0", port: 9 }]);
});

test("without ss, listeners are those of the kernel's tables, without owners", () => {
  const tables =
    "0100007F:1F41\n00000000000000000000000001000000:1F42\n00000000000000000000000000000000:0016\n0000000000000000FFFF00000500000A:1F43\nnoise\n";
  const facts = factsOf("t4-ubuntu", { listeners: [127, ""], "listeners-proc": [0, tables] });
  expect(facts.network.listeners).toEqual({
    seen: true,
    value: [
      { address: "127.0.0.1", port: 8001, process: null },
      { address: "::1", port: 8002, process: null },
      { address: "::", port: 22, process: null },
      { address: "10.0.0.5", port: 8003, process: null },
    ],
  });
});
