import { describe, expect, test } from "vitest";
import { deploy } from "../../../cli/src/app/deploy.js";
import { CandidateFailed, PreflightRefused, UsageError } from "../../../cli/src/domain/errors.js";
import { summaryOf, type NodeSummary } from "../../../cli/src/domain/preflight/node-summary.js";
import { ms } from "../../../cli/src/domain/units.js";
import { phases } from "../../../cli/src/domain/phases.js";
import { Environment } from "../../fakes/environment.js";
import { faults } from "../../fakes/service-behaviour.js";
import { factsOf } from "../preflight/captures.js";
import {
  current,
  expectAtRest,
  expectExactlyOneServes,
  failureOf,
  instancesOf,
  runDeploy,
  runPlan,
} from "../../support/lifecycle.js";

const noWait = ms(0);

describe("a deploy", () => {
  test("of nothing yet brings every service into service and leaves nothing to plan", async () => {
    const environment = new Environment();
    const result = await runDeploy(environment);
    expect(result).toMatchObject({ outcome: "deployed", previous: null, release: current(environment)?.id });
    await expectAtRest(environment);
  });

  test("goes through the phases of the lifecycle in their order", async () => {
    const environment = new Environment();
    const cli = environment.cli();
    await deploy(cli.ctx, { service: undefined, lockWait: noWait });
    const begun = cli.events.flatMap((event) => (event.kind === "phase" && event.state === "begin" ? [event.phase] : []));
    expect([...new Set(begun)]).toEqual([...phases]);
  });

  test("keeps in its record what its nodes were, those not looked at as they were before", async () => {
    const environment = new Environment();
    const [gpu, cpu] = ["gpu-1", "cpu-1"].map((node) => summaryOf(node, factsOf("t4-ubuntu"), "2026-03-01T12:00:00.000Z"));
    const later = { ...gpu!, seenAt: "2026-03-02T12:00:00.000Z", driver: "580.126.02" };
    const seen = async (nodes: readonly NodeSummary[]): Promise<readonly NodeSummary[] | undefined> => {
      const { ctx } = environment.cli();
      await deploy({ ...ctx, nodesSeen: () => nodes }, { service: undefined, lockWait: noWait });
      return current(environment)?.nodes;
    };
    expect(await seen([gpu!, cpu!])).toEqual([cpu, gpu]);
    environment.set("embedder", "GPUCTL_MAX_BATCH_TOKENS", "4096");
    expect(await seen([later])).toEqual([cpu, later]);
  });

  test("with nothing changed says so, takes no lease and touches nothing", async () => {
    const environment = new Environment();
    await runDeploy(environment);
    const cli = environment.cli();
    expect(await deploy(cli.ctx, { service: undefined, lockWait: noWait })).toMatchObject({ outcome: "nothing-to-do" });
    expect(cli.interference.calls.filter((call) => /^leases?\.|start|open|close|stop|create|update/.test(call))).toEqual([]);
  });

  test("of one service leaves the instances of the others alone", async () => {
    const environment = new Environment();
    await runDeploy(environment);
    const before = new Set(environment.machine.serving());
    environment.code.wheel = "wheel-two";
    await runDeploy(environment, "reranker");
    expect(environment.machine.serving().filter((id) => !before.has(id))).toHaveLength(1);
    expectExactlyOneServes(environment);
    expect(await runPlan(environment)).toMatchObject({ changes: [{ service: "embedder" }, { service: "index" }] });
  });

  test("of a service that is not configured lists those that are", async () => {
    const failure = await failureOf(runDeploy(new Environment(["embedder"]), "rerank"));
    expect(failure).toBeInstanceOf(UsageError);
    expect(failure.because).toBe("its services are embedder");
  });

  test("records peak memory, proof and gates of what it measured", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    const record = current(environment);
    expect(record?.services.embedder).toMatchObject({ peakMiB: 300, proof: { device: "cpu", level: "self" } });
    expect(record?.gates.map(({ gate, outcome }) => `${gate} ${outcome}`)).toEqual([
      "load passed",
      "warm-up passed",
      "device-proof passed",
      "correctness passed",
      "benchmark skipped",
      "soak passed",
    ]);
  });

  test("gives secrets to the instance and to the kept file, and only their HMAC to the record", async () => {
    const environment = new Environment(["embedder"]);
    environment.service("embedder").secrets = { API_KEYS: { env: "KEYS" } };
    environment.secrets.values.set("KEYS", "correct horse");
    const cli = environment.cli();
    const result = await deploy(cli.ctx, { service: undefined, lockWait: noWait });
    const [instance] = environment.machine.instances.values();
    expect(instance?.secrets).toEqual({ API_KEYS: "correct horse" });
    expect([...environment.releases.kept.values()]).toEqual([{ embedder: { API_KEYS: "correct horse" } }]);
    const told = JSON.stringify([result, cli.events, current(environment), environment.audit.entries]);
    expect(told).not.toContain("correct horse");
  });

  test("a changed secret is a change, and its value is not shown", async () => {
    const environment = new Environment(["embedder"]);
    environment.service("embedder").secrets = { API_KEYS: { env: "KEYS" } };
    environment.secrets.values.set("KEYS", "one");
    await runDeploy(environment);
    environment.secrets.values.set("KEYS", "two");
    expect((await runPlan(environment)).changes).toEqual([
      { service: "embedder", kind: "changed", because: ["secret API_KEYS changed"] },
    ]);
  });

  test("keeps the predecessor warm and tells it when to stop", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    const [old] = environment.machine.serving();
    environment.set("embedder", "GPUCTL_THREADS", "2");
    await runDeploy(environment);
    expect(environment.machine.instances.get(old ?? "")).toMatchObject({ traffic: "paused", process: { state: "running" } });
    environment.clock.pass(600_001);
    await environment.driver.observe();
    expect(environment.machine.runningIds()).toHaveLength(1);
    await expectAtRest(environment);
  });

  test.each([
    [true, []],
    [false, [/^embedder-\S+ still had requests after \d+ m?s of draining$/]],
    [
      null,
      [/^it is not known whether embedder-\S+ still had requests after \d+ m?s of draining: the proxy, .* could not be asked$/],
    ],
  ])("says how the wait for the predecessor's last requests ended: none left %s", async (drained, said) => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    environment.set("embedder", "GPUCTL_THREADS", "2");
    environment.driver.drained = drained;
    const cli = environment.cli();
    await deploy(cli.ctx, { service: undefined, lockWait: noWait });
    const warnings = cli.events.flatMap((event) => (event.kind === "warning" ? [event.text] : []));
    expect(warnings).toEqual(said.map((text) => expect.stringMatching(text) as string));
  });

  test("refuses a candidate that fits neither beside nor instead of what runs, before anything is stopped", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    environment.machine.memoryMiB = 900;
    environment.set("embedder", "GPUCTL_THREADS", "2");
    expect(await failureOf(runDeploy(environment))).toBeInstanceOf(PreflightRefused);
    expectExactlyOneServes(environment);
  });

  test("looks at the memory again before it stops anything: another tenant may have come since the plan", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    const before = environment.machine.serving();
    environment.set("embedder", "GPUCTL_THREADS", "2");
    const manager = environment.driver.ensureManager.bind(environment.driver);
    environment.driver.ensureManager = async (...given) => {
      environment.machine.memoryMiB = 1400;
      return manager(...given);
    };
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toMatchObject({
      exit: "candidateFailed",
      because: expect.stringMatching(/memory that is free has changed.*overlap was planned, and now it is stop-first/) as string,
    });
    expect(environment.machine.serving()).toEqual(before);
    await runDeploy(environment);
    await expectAtRest(environment);
  });

  test("whose old instance is not shut in time has nobody shut it any more before anything is taken back", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    const before = environment.machine.serving();
    environment.set("embedder", "GPUCTL_THREADS", "2");
    const events: string[] = [];
    const open = environment.driver.open.bind(environment.driver);
    const close = environment.driver.close.bind(environment.driver);
    environment.driver.close = async (id, drain, lease, signal) => {
      environment.driver.close = close;
      await new Promise((resolve) => signal?.addEventListener("abort", resolve));
      events.push("given up");
      await environment.clock.sleep(ms(5000));
      events.push("ended");
      throw new Error("nobody waits for it");
    };
    environment.driver.open = (...opened) => {
      if (events.length > 0) events.push("opened");
      return open(...opened);
    };
    const failure = await failureOf(runDeploy(environment));
    expect(failure.because).toMatch(/closing embedder-r1-\w+-a did not end within/);
    expect(events.slice(0, 2)).toEqual(["given up", "ended"]);
    expect(environment.machine.serving()).toEqual(before);
  });

  test("whose start takes longer than its budget has it ended on the target before anything is taken back", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    const before = environment.machine.serving();
    environment.set("embedder", "GPUCTL_THREADS", "2");
    const events: string[] = [];
    const start = environment.driver.start.bind(environment.driver);
    const observe = environment.driver.observe.bind(environment.driver);
    environment.driver.start = async (instance, secrets, lease, signal) => {
      await start(instance, secrets, lease);
      await new Promise((resolve) => signal?.addEventListener("abort", resolve));
      events.push("given up");
      await environment.clock.sleep(ms(5000));
      await environment.driver.stop(instance.id, null, lease);
      events.push("ended");
      throw new Error("nobody waits for it");
    };
    environment.driver.observe = () => {
      if (events.length > 0) events.push("looked");
      return observe();
    };
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toMatchObject({ exit: "candidateFailed" });
    expect(failure.because).toMatch(/starting embedder-r2-\w+-b did not end within 150 s/);
    expect(events.slice(0, 3)).toEqual(["given up", "ended", "looked"]);
    expect(environment.machine.serving()).toEqual(before);
    expect(environment.machine.runningIds()).toEqual(before);
  });

  test("that is killed after it stopped the old instance first leaves nothing dark: the machine brings the old one back", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    const before = environment.machine.serving();
    environment.machine.memoryMiB = 1400;
    environment.set("embedder", "GPUCTL_THREADS", "2");
    expect((await runPlan(environment)).strategy?.kind).toBe("stop-first");
    const killed = environment.cli();
    const start = environment.driver.start.bind(environment.driver);
    environment.driver.start = async (...given) => {
      await start(...given);
      killed.interference.kill();
    };
    void deploy(killed.ctx, { service: undefined, lockWait: noWait });
    for (let i = 0; i < 200 && killed.interference.alive; i += 1) await environment.clock.sleep(ms(10));
    environment.driver.start = start;
    expect(environment.machine.serving()).toEqual([]);
    environment.clock.pass(2_000_000);
    await environment.driver.observe();
    expect(environment.machine.serving()).toEqual(before);
    await runDeploy(environment);
    await expectAtRest(environment);
  });

  test("reports all blockers of the preflight at once and starts nothing", async () => {
    const environment = new Environment(["embedder"]);
    environment.driver.findings.push(
      { level: "blocker", code: "port-taken", what: "port 8001 is taken", because: "nginx listens there" },
      { level: "blocker", code: "disk-full", what: "the disk is full" },
    );
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toBeInstanceOf(PreflightRefused);
    expect(failure.message).toBe("port 8001 is taken; the disk is full");
    expect(environment.releases.records.size).toBe(0);
  });

  test("that finds another one at work is refused, and both end with one release serving", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    environment.set("embedder", "GPUCTL_THREADS", "2");
    const outcomes = await Promise.allSettled([runDeploy(environment), runDeploy(environment)]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    await expectAtRest(environment);
  });

  test("does not care that the date was set back by a day", async () => {
    const environment = new Environment();
    await runDeploy(environment);
    environment.clock.setBack(86_400_000);
    environment.code.wheel = "wheel-two";
    await runDeploy(environment);
    await expectAtRest(environment);
    expect(current(environment)?.number).toBe(2);
    environment.clock.setBack(86_400_000);
    environment.code.wheel = "wheel-three";
    await runDeploy(environment);
    await expectAtRest(environment);
    expect(current(environment)?.number).toBe(3);
  });

  test("only good releases count for retention: failed ones never push one out", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    environment.set("embedder", "FAULT", "nan");
    for (let i = 0; i < 5; i += 1) await failureOf(runDeploy(environment));
    environment.unset("embedder", "FAULT");
    environment.set("embedder", "GPUCTL_THREADS", "2");
    await runDeploy(environment);
    expect(
      [...environment.releases.records.values()].filter(({ state }) => state === "good").map(({ number }) => number),
    ).toEqual([1, 7]);
    for (const threads of ["3", "4", "5"]) {
      environment.set("embedder", "GPUCTL_THREADS", threads);
      await runDeploy(environment);
      await expectAtRest(environment);
    }
    expect([...environment.releases.records.keys()].map((id) => id.split("-")[0])).toEqual(["r8", "r9", "r10"]);
  });
});

describe("a candidate that is broken", () => {
  const what: Record<(typeof faults)[number], RegExp> = {
    "exits-at-load": /exited with status 1/,
    "hangs-at-load": /did not finish loading within its budget of 8 s/,
    "says-failed": /it says failed: bad magic/,
    "hangs-at-warm-up": /warmup.*did not end within 8 s/,
    "wrong-device": /cpu is required and the live session runs on mps/,
    "bad-canary": /canary answer is wrong/,
    nan: /no finite number/,
    "wrong-dimension": /5 dimensions and the model 4/,
    "wrong-vectors": /lowest cosine to the reference/,
    "wrong-tokens": /tokens in the probe texts/,
    "http-500": /answered with 500/,
    "restarts-when-open": /failed in the soak: it was restarted/,
    "dies-when-open": /failed in the soak: its process is exited/,
    "wrong-when-open": /failed in the soak: a probe was answered wrongly/,
    "errors-when-open": /requests were answered with a server error/,
    "leaves-device-when-open": /proven on cpu and now runs on mps/,
  };

  test.each(faults)("(%s) fails with its reason and its log; the old release keeps serving", async (fault) => {
    const environment = new Environment(["embedder"]);
    environment.service("embedder").device = { prefer: "cpu", require: "cpu", proof: "self" };
    await runDeploy(environment);
    const before = environment.machine.serving();
    environment.set("embedder", "FAULT", fault);
    const cli = environment.cli();
    const failure = await failureOf(deploy(cli.ctx, { service: undefined, lockWait: noWait }));
    expect(failure).toBeInstanceOf(CandidateFailed);
    expect(failure.because).toMatch(what[fault]);
    expect(failure.message).toMatch(/r1-\w+ keeps serving/);
    expect(failure.data).toMatchObject({
      logTail: [expect.stringContaining("starting"), expect.stringContaining("load-failed")],
    });
    expect(cli.events.some((event) => event.kind === "step" && event.text.includes("load-failed"))).toBe(true);
    expect(environment.machine.serving()).toEqual(before);
    expect(environment.machine.runningIds()).toEqual(before);
    expect(environment.releases.records.size).toBe(2);
    environment.unset("embedder", "FAULT");
    await expectAtRest(environment);
  });

  test("that exits while loading fails at once, not after the load budget", async () => {
    const environment = new Environment(["embedder"]);
    environment.set("embedder", "FAULT", "exits-at-load");
    const began = environment.clock.monotonic();
    await failureOf(runDeploy(environment));
    expect(environment.clock.monotonic() - began).toBeLessThan(1000);
  });

  test.each(faults)("(%s) as the first release leaves nothing serving, and says so", async (fault) => {
    const environment = new Environment(["embedder"]);
    environment.service("embedder").device = { prefer: "cpu", require: "cpu", proof: "self" };
    environment.set("embedder", "FAULT", fault);
    const failure = await failureOf(runDeploy(environment));
    expect(failure.message).toMatch(/nothing serves/);
    expect(environment.machine.runningIds()).toEqual([]);
  });

  test("in one service takes back the others that were switched with it", async () => {
    const environment = new Environment();
    await runDeploy(environment);
    const before = instancesOf(current(environment));
    environment.code.wheel = "wheel-two";
    environment.set("reranker", "FAULT", "wrong-when-open");
    await failureOf(runDeploy(environment));
    expect(environment.machine.serving()).toEqual(before);
    expectExactlyOneServes(environment);
  });

  test("misses a configured benchmark gate by its figures", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    environment.service("embedder").benchmarkGate = { maxP95: ms(-1), seconds: 0 };
    environment.set("embedder", "GPUCTL_THREADS", "2");
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toBeInstanceOf(CandidateFailed);
    expect(failure.because).toMatch(/benchmark gate failed: p95 0.0 ms of \d+ requests, limit -1 ms/);
  });

  test("that is slower under traffic than 1.5 times its benchmark gate fails in the soak; without a gate nobody measures", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    environment.service("embedder").benchmarkGate = { maxP95: ms(20), seconds: 0 };
    environment.set("embedder", "FAULT", "slow-when-open");
    const failure = await failureOf(runDeploy(environment));
    expect(failure.because).toMatch(/failed in the soak: p95 40.0 ms of \d+ requests, above 1.5 times the 20 ms/);
    expectExactlyOneServes(environment);
    environment.service("embedder").benchmarkGate = { maxP95: ms(30), seconds: 0 };
    expect((await runDeploy(environment)).outcome).toBe("deployed");
  });

  test("a scoring cross-encoder is held to the logits of its probes", async () => {
    const environment = new Environment(["reranker"]);
    environment.service("reranker").model = "cross";
    await runDeploy(environment);
    expect(current(environment)?.gates.find(({ gate }) => gate === "correctness")?.detail).toMatch(/3 logits within 0.01/);
    environment.set("reranker", "FAULT", "wrong-vectors");
    expect((await failureOf(runDeploy(environment))).because).toMatch(/differs from the reference/);
  });
});
