import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { phases } from "../../cli/src/domain/phases.js";
import { changedWheel } from "../support/faulty-wheel.js";
import { Sandbox } from "../support/sandbox.js";
import { status } from "../support/serving.js";

// The CLI is struck right after it said that a phase had ended, so inside the next one.
describe("the CLI struck at each phase of a deploy", () => {
  let sandbox: Sandbox;
  const wheels: string[] = [];
  const ended = (phase: string): RegExp => new RegExp(`\\d\\d ${phase}`);

  beforeAll(async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
    for (const phase of phases) wheels.push(changedWheel(sandbox.directory, phase.replace("-", "")));
    await sandbox.result(["deploy"]);
  }, 120_000);

  afterAll(async () => {
    await sandbox.close();
  });

  test.each(phases)(
    "Ctrl-C after %s: the service answers by the old release, or by the new one where that was good, and nobody holds the lease",
    async (phase) => {
      const before = await openInstances(sandbox);
      const deploy = sandbox.start(["deploy"], { GPUCTL_WHEEL: changedWheel(sandbox.directory, `int${phase.replace("-", "")}`) });
      await deploy.saysOnStderr(ended(phase));
      deploy.child.kill("SIGINT");
      const { code, stderr } = await deploy.ended;
      expect([0, 130], stderr).toContain(code);
      const finished = code === 0 || phases.indexOf(phase) >= phases.indexOf("mark-good");
      expect((await sandbox.post("embedder", "/embed", { inputs: ["still here"] })).status).toBe(200);
      const now = await openInstances(sandbox);
      expect(now).toHaveLength(1);
      expect(now[0]?.id === before[0]?.id, stderr).toBe(!finished);
      expect((await sandbox.json(["lock", "status"])).document.result).toMatchObject({ holder: null });
      const { document } = await sandbox.json(["plan"]);
      expect(document.ok).toBe(true);
    },
    120_000,
  );

  test.each(phases.map((phase, index) => [phase, index] as const))(
    "kill -9 after %s: the service answers, the next deploy succeeds, one release serves",
    async (phase, index) => {
      const env = { GPUCTL_WHEEL: wheels[index] ?? "" };
      const deploy = sandbox.start(["deploy"], env);
      await deploy.saysOnStderr(ended(phase));
      deploy.child.kill("SIGKILL");
      await deploy.ended;

      expect((await sandbox.post("embedder", "/embed", { inputs: ["still here"] })).status).toBe(200);
      const seen = await status(sandbox);
      expect(seen.services.map((one) => one.service)).toEqual(["embedder"]);

      await sandbox.result(["deploy"], env);
      const after = await status(sandbox);
      expect(after.release?.state).toBe("good");
      expect(after.services).toMatchObject([{ service: "embedder", process: { state: "running" }, traffic: "open" }]);
      expect(await openInstances(sandbox)).toHaveLength(1);
      expect((await sandbox.post("embedder", "/embed", { inputs: ["and after"] })).status).toBe(200);
    },
    120_000,
  );

  test("a killed CLI is mended by repair alone", async () => {
    const deploy = sandbox.start(["deploy"], { GPUCTL_WHEEL: wheels[0] ?? "" });
    await deploy.saysOnStderr(/\d\d load/);
    deploy.child.kill("SIGKILL");
    await deploy.ended;
    await sandbox.result(["repair"]);
    expect(await openInstances(sandbox)).toHaveLength(1);
    const { document } = await sandbox.json(["lock", "status"]);
    expect(document.ok).toBe(true);
    expect((await sandbox.json(["plan", "--exit-code"], { GPUCTL_WHEEL: wheels[0] ?? "" })).code).toBe(7);
  }, 120_000);

  test("SIGINT before the switch keeps the old release, releases the lease and exits 130", async () => {
    const deploy = sandbox.start(["deploy"], { GPUCTL_WHEEL: wheels[1] ?? "" });
    await deploy.saysOnStderr(/\d\d start/);
    deploy.child.kill("SIGINT");
    const ended = await deploy.ended;
    expect(ended.code).toBe(130);
    expect(ended.stderr).toMatch(/keeps serving/);
    expect((await sandbox.post("embedder", "/embed", { inputs: ["still here"] })).status).toBe(200);
    expect(await openInstances(sandbox)).toHaveLength(1);
    await sandbox.result(["deploy", "--lock-wait", "0s"], { GPUCTL_WHEEL: wheels[1] ?? "" });
  }, 120_000);
});

interface Seen {
  id: string;
  traffic: string;
}

/** Instances whose own control socket says that they answer publicly. */
async function openInstances(sandbox: Sandbox): Promise<Seen[]> {
  const { document } = await sandbox.json(["status"]);
  const { instances } = document.result as { instances: Seen[] };
  return instances.filter((one) => one.traffic === "open");
}
