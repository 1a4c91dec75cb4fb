import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { changedWheel } from "../support/faulty-wheel.js";
import { Sandbox } from "../support/sandbox.js";
import { status } from "../support/serving.js";

/** The CLI dies right after it said that this phase had ended, so inside the next one. */
const killedAfter = [
  "preflight",
  "stage-models",
  "lease",
  "strategy",
  "start",
  "load",
  "warm-up",
  "device-proof",
  "gates",
  "switch",
  "drain",
  "soak",
] as const;

describe("kill -9 of the CLI at each phase of a deploy", () => {
  let sandbox: Sandbox;
  const wheels: string[] = [];

  beforeAll(async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
    for (const mark of killedAfter) wheels.push(changedWheel(sandbox.directory, mark.replace("-", "")));
    await sandbox.result(["deploy"]);
  }, 120_000);

  afterAll(async () => {
    await sandbox.close();
  });

  test.each(killedAfter.map((phase, index) => [phase, index] as const))(
    "after %s: the service answers, the next deploy succeeds, one release serves",
    async (phase, index) => {
      const env = { GPUCTL_WHEEL: wheels[index] ?? "" };
      const deploy = sandbox.start(["deploy"], env);
      await deploy.saysOnStderr(new RegExp(`\\d\\d ${phase}`));
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

/** Instances whose own control socket says that they answer publicly. */
async function openInstances(sandbox: Sandbox): Promise<unknown[]> {
  const { document } = await sandbox.json(["status"]);
  const { instances } = document.result as { instances: { traffic: string }[] };
  return instances.filter((one) => one.traffic === "open");
}
