import { describe, expect, test } from "vitest";
import { destroy } from "../../../cli/src/app/destroy.js";
import { prune } from "../../../cli/src/app/prune.js";
import { statusText } from "../../../cli/src/app/render/status-text.js";
import { status } from "../../../cli/src/app/status.js";
import { lockRelease } from "../../../cli/src/app/lock-release.js";
import { repair } from "../../../cli/src/app/repair.js";
import { Failed, PreflightRefused, UsageError } from "../../../cli/src/domain/errors.js";
import type { ReleaseState } from "../../../cli/src/domain/release.js";
import { ms } from "../../../cli/src/domain/units.js";
import { Environment } from "../../fakes/environment.js";
import { InMemoryDriver } from "../../fakes/in-memory-driver.js";
import {
  current,
  expectAtRest,
  expectExactlyOneServes,
  failureOf,
  instancesOf,
  runDeploy,
  runPlan,
  runRepair,
} from "../../support/lifecycle.js";

async function running(): Promise<Environment> {
  const environment = new Environment();
  await runDeploy(environment);
  return environment;
}

/** A release whose deploy was killed in this state, with its instances as they are. */
async function killedWith(state: ReleaseState): Promise<Environment> {
  const environment = await running();
  environment.code.wheel = "wheel-two";
  await runDeploy(environment);
  const record = current(environment);
  if (record === null) throw new Error("nothing is current");
  environment.releases.records.set(record.id, { ...record, state, finishedAt: null });
  return environment;
}

describe("what differs from the release", () => {
  test("nothing: repair says so", async () => {
    expect((await runRepair(await running())).mended).toEqual([]);
  });

  test("a killed instance shows in status and plan, and repair starts it", async () => {
    const environment = await running();
    const [victim = ""] = environment.machine.serving();
    environment.machine.kill(victim);
    const report = await status(environment.cli().ctx);
    expect(report).toMatchObject({ healthy: false, problems: ["embedder does not run"] });
    expect((await runPlan(environment)).drift).toEqual([`restart   ${victim} (killed by SIGKILL)`]);
    await runRepair(environment);
    await expectAtRest(environment);
  });

  test("a killed index gets its writer lock back", async () => {
    const environment = await running();
    environment.machine.kill(environment.machine.writer ?? "");
    await runRepair(environment);
    await expectAtRest(environment);
  });

  test("a paused instance of the current release is opened", async () => {
    const environment = await running();
    const [id = ""] = environment.machine.serving();
    const instance = environment.machine.instances.get(id);
    if (instance !== undefined) instance.traffic = "paused";
    expect((await runPlan(environment)).drift).toEqual([`open      ${id} (paused, though it is the current release)`]);
    await runRepair(environment);
    await expectAtRest(environment);
  });

  test("a paused instance that was told to end by a command that was killed is started again", async () => {
    const environment = await running();
    const { ctx } = environment.cli();
    const index = environment.machine.writer ?? "";
    const paused = environment.machine.instances.get(index);
    if (paused === undefined) throw new Error("no index runs");
    paused.traffic = "paused";
    const driver = new InMemoryDriver(environment.machine, ctx.clock);
    const open = driver.open.bind(driver);
    let refusals = 1;
    driver.open = (id, lease) => {
      refusals -= 1;
      if (refusals < 0) return open(id, lease);
      return Promise.reject(new Failed(`the keeper did not open ${id}`, { data: { code: "ending" } }));
    };
    const { mended } = await repair({ ...ctx, driver }, { lockWait: ms(0) });
    expect(mended.map((line) => line.split(/\s+/)[0])).toEqual(["open", "restart"]);
    await expectAtRest(environment);
  });

  test("an edited file is staged again", async () => {
    const environment = await running();
    environment.machine.wheels.clear();
    expect((await runPlan(environment)).drift[0]).toMatch(/^stage {5}embedder again/);
    await runRepair(environment);
    await expectAtRest(environment);
  });

  test("an edited model file shows in status and plan, and repair says that it cannot mend it", async () => {
    const environment = await running();
    environment.machine.editedModels.add("small");
    expect((await runPlan(environment)).drift.join()).toMatch(/^stage {5}embedder again .*edited/);
    expect((await status(environment.cli().ctx)).problems.join()).toMatch(/drift: stage {5}embedder/);
    expect((await failureOf(runRepair(environment))).message).toMatch(/the model small is not what was fetched/);
    expectExactlyOneServes(environment);
  });

  test("an edited model file of a service that serves does not bar a deploy of another one", async () => {
    const environment = await running();
    environment.config.services.reranker = { ...environment.service("reranker"), model: "large" };
    await runDeploy(environment);
    environment.machine.editedModels.add("small");
    environment.set("reranker", "GPUCTL_LOG_LEVEL", "debug");
    expect((await runDeploy(environment, "reranker")).outcome).toBe("deployed");
    expectExactlyOneServes(environment);
  });

  test("an instance nobody knows is stopped, after what should serve serves", async () => {
    const environment = await running();
    const [known] = environment.machine.instances.values();
    if (known === undefined) throw new Error("nothing runs");
    const id = "embedder-r9-00000000-b";
    environment.machine.instances.set(id, { ...known, is: { ...known.is, id, release: "r9-00000000", slot: "b" } });
    expect((await runPlan(environment)).drift).toEqual([`stop      ${id} (no kept release runs it)`]);
    await runRepair(environment);
    await expectAtRest(environment);
  });

  test.each([
    [true, []],
    [false, ["embedder-r9-00000000-b still had requests after 5 s of draining"]],
    [
      null,
      [
        "it is not known whether embedder-r9-00000000-b still had requests after 5 s of draining: the proxy, which counts them, could not be asked",
      ],
    ],
  ])("an instance nobody knows that is stopped with requests inside is told: none left %s", async (drained, said) => {
    const environment = await running();
    const [known] = environment.machine.instances.values();
    if (known === undefined) throw new Error("nothing runs");
    const id = "embedder-r9-00000000-b";
    environment.machine.instances.set(id, {
      ...known,
      is: { ...known.is, id, release: "r9-00000000", slot: "b" },
      traffic: "open",
    });
    environment.driver.drained = drained;
    const cli = environment.cli();
    await repair(cli.ctx, { lockWait: ms(0) });
    expect(cli.events.flatMap((event) => (event.kind === "warning" ? [event.text] : []))).toEqual(said);
  });

  test("a reboot is called by its name, and deploy starts everything again", async () => {
    const environment = await running();
    environment.machine.reboot();
    const report = await status(environment.cli().ctx);
    expect(report.problems).toContain("embedder was stopped by reboot");
    expect(await runDeploy(environment)).toMatchObject({ outcome: "mended" });
    await expectAtRest(environment);
    expect(environment.releases.records.size).toBe(1);
  });

  test("a release that cannot be started again is no success, and says which service", async () => {
    const environment = await running();
    const [id = ""] = environment.machine.serving();
    const instance = environment.machine.instances.get(id);
    environment.machine.kill(id);
    environment.driver.start = () => Promise.reject(new Failed("there is no room for it"));
    const failure = await failureOf(runRepair(environment));
    expect(failure).toBeInstanceOf(Failed);
    expect(failure.message).toMatch(/^embedder of r1-\w+ could not be brought back/);
    expect(instance?.process.state).toBe("exited");
  });
});

describe("a deploy that was killed", () => {
  test("after the switch, with everything healthy, is finished", async () => {
    const environment = await killedWith("switched");
    const killed = instancesOf([...environment.releases.records.values()].at(-1) ?? null);
    await runRepair(environment);
    expect(environment.machine.serving()).toEqual(killed);
    await expectAtRest(environment);
    expect(current(environment)?.number).toBe(2);
  });

  test("after the switch, with an instance that died since, is given up for the old release", async () => {
    const environment = await killedWith("switched");
    environment.machine.kill(environment.machine.serving().find((id) => id.startsWith("reranker")) ?? "");
    await runRepair(environment);
    expectExactlyOneServes(environment);
    expect(current(environment)?.number).toBe(1);
  });

  test("in the middle of the switch is given up for the old release, writer included", async () => {
    const environment = await killedWith("candidate");
    await runRepair(environment);
    expectExactlyOneServes(environment);
    expect(current(environment)?.number).toBe(1);
    expect([...environment.releases.records.values()].at(-1)).toMatchObject({
      state: "failed",
      failure: "its deploy ended before traffic was moved to it",
    });
  });

  test("shows in status as unfinished, and what will become of it in plan", async () => {
    const environment = await killedWith("candidate");
    const report = await status(environment.cli().ctx);
    expect(report.unfinished).toMatchObject([{ state: "candidate", underWay: false }]);
    expect(report.healthy).toBe(false);
    expect((await runPlan(environment)).drift[0]).toMatch(/^settle {4}r2-\w+: give it up/);
  });
});

describe("other commands", () => {
  test("destroy wants the environment's name, then stops everything and keeps the releases", async () => {
    const environment = await running();
    const refused = await failureOf(destroy(environment.cli().ctx, { confirm: undefined, models: false, lockWait: ms(0) }));
    expect(refused).toBeInstanceOf(UsageError);
    expect(refused.nextSteps).toEqual(["gpuctl destroy --confirm local"]);
    const shared = await failureOf(destroy(environment.cli().ctx, { confirm: "local", models: true, lockWait: ms(0) }));
    expect(shared).toBeInstanceOf(UsageError);
    expect(shared.nextSteps.join()).toContain("gpuctl models gc");
    const pruned = await failureOf(prune(environment.cli().ctx, { models: true, lockWait: ms(0) }));
    expect(pruned.nextSteps[0]).toBe("gpuctl prune");
    expect(environment.machine.serving()).not.toEqual([]);
    await destroy(environment.cli().ctx, { confirm: "local", models: false, lockWait: ms(0) });
    expect(environment.machine.serving()).toEqual([]);
    const after = await status(environment.cli().ctx);
    expect(after).toMatchObject({ healthy: false, drift: [] });
    expect(after.problems.join()).toMatch(/^nothing runs, because ada@box destroyed the environment at /);
    expect(statusText(after)).toMatch(/Stopped on purpose[^]*Next: gpuctl deploy starts it again/);
    await runDeploy(environment);
    await expectAtRest(environment);
    expect((await status(environment.cli().ctx)).healthy).toBe(true);
    expect(environment.releases.records.size).toBe(1);
    environment.machine.reboot();
    expect((await status(environment.cli().ctx)).problems.join()).toMatch(/stopped by reboot/);
  });

  test("a live lease is broken only by force, with a line in the audit", async () => {
    const environment = await running();
    await environment.leases.of(() => true).acquire("deploy", ms(0), new AbortController().signal);
    expect(await failureOf(lockRelease(environment.cli().ctx, { force: false }))).toBeInstanceOf(PreflightRefused);
    expect(await lockRelease(environment.cli().ctx, { force: true })).toMatchObject({ broken: { command: "deploy" } });
    expect(environment.audit.entries.at(-1)?.action).toBe("lock-release");
  });
});
