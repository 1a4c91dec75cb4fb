import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startSteadyLoad } from "../../scripts/steady-load.mjs";
import { Sandbox } from "../support/sandbox.js";
import { eventually, servingPid, status } from "../support/serving.js";

const embedderLoad = (sandbox: Sandbox, perSecond: number): ReturnType<typeof startSteadyLoad> => {
  let n = 0;
  return startSteadyLoad(
    [{ service: "embedder", url: sandbox.url("embedder", "/embed"), body: () => ({ inputs: [`text ${String((n += 1))}`] }) }],
    perSecond,
  );
};

const keeperPid = (sandbox: Sandbox): number =>
  (JSON.parse(readFileSync(join(sandbox.state, "keeper/keeper.json"), "utf8")) as { pid: number }).pid;

/** The children of a process: the workers of a service. */
const workersOf = (pid: number): number[] =>
  readdirSync(`/proc/${String(pid)}/task`)
    .flatMap((thread) => readFileSync(`/proc/${String(pid)}/task/${thread}/children`, "utf8").split(" "))
    .filter(Boolean)
    .map(Number);

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe("kill -9 of what serves, under load", () => {
  let sandbox: Sandbox;

  beforeAll(async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
    await sandbox.result(["deploy"]);
  }, 120_000);

  afterAll(async () => {
    await sandbox.close();
  });

  test("of the instance: only the requests inside it fail, none is refused, it comes back by itself", async () => {
    const load = embedderLoad(sandbox, 20);
    await pause(1000);
    const pid = await servingPid(sandbox, "embedder");
    process.kill(pid, "SIGKILL");
    await eventually(
      () => servingPid(sandbox, "embedder"),
      (now) => now !== pid,
    );
    await eventually(
      () => status(sandbox),
      (seen) => seen.services[0]?.traffic === "open",
    );
    await pause(1000);
    const { ok, failed } = await load.stop();
    expect(failed.filter(({ reason }) => reason.includes("ECONNREFUSED"))).toEqual([]);
    expect(failed.length).toBeLessThanOrEqual(3);
    expect(ok).toBeGreaterThan(20);
  }, 90_000);

  test("of the engine's worker: the instance stays, and no request fails", async () => {
    const load = embedderLoad(sandbox, 20);
    await pause(500);
    const pid = await servingPid(sandbox, "embedder");
    for (let n = 0; n < 3; n += 1) {
      const [worker = 0] = workersOf(pid);
      process.kill(worker, "SIGKILL");
      await eventually(
        () => Promise.resolve(workersOf(pid)),
        (now) => now.length === 1 && now[0] !== worker,
      );
      await pause(500);
    }
    const { ok, failed } = await load.stop();
    expect(failed).toEqual([]);
    expect(ok).toBeGreaterThan(20);
    expect(await servingPid(sandbox, "embedder")).toBe(pid);
  }, 90_000);

  test("of the instance: its worker is gone with it", async () => {
    const pid = await servingPid(sandbox, "embedder");
    const [worker = 0] = workersOf(pid);
    process.kill(pid, "SIGKILL");
    await eventually(
      () => Promise.resolve(existsSync(`/proc/${String(worker)}`)),
      (there) => !there,
    );
    await eventually(
      () => status(sandbox),
      (seen) => seen.services[0]?.traffic === "open",
    );
  }, 90_000);

  test("of the keeper: nobody notices, and the next command brings a new one that adopts everything", async () => {
    const load = embedderLoad(sandbox, 20);
    await pause(500);
    const served = await servingPid(sandbox, "embedder");
    process.kill(keeperPid(sandbox), "SIGKILL");
    await eventually(
      () => status(sandbox),
      (seen) => seen.manager.state === "absent",
    );
    await sandbox.result(["repair"]);
    expect(await servingPid(sandbox, "embedder")).toBe(served);
    expect((await status(sandbox)).manager.state).toBe("running");
    await pause(500);
    expect((await load.stop()).failed).toEqual([]);
  }, 90_000);

  test("of both: status says so, repair brings the same release back", async () => {
    const before = (await status(sandbox)).release?.id;
    const pid = await servingPid(sandbox, "embedder");
    process.kill(keeperPid(sandbox), "SIGKILL");
    process.kill(pid, "SIGKILL");
    const dead = await eventually(
      () => sandbox.json(["status"]),
      (seen) => seen.code === 1,
    );
    expect(JSON.stringify(dead.document.result)).not.toMatch(/"traffic":"open"/);
    await sandbox.result(["repair"]);
    const after = await status(sandbox);
    expect(after.release?.id).toBe(before);
    expect(after.services[0]?.traffic).toBe("open");
    expect((await sandbox.post("embedder", "/embed", { inputs: ["back"] })).status).toBe(200);
  }, 90_000);
});
