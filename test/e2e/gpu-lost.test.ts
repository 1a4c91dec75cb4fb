/** A service that believes in a GPU (a stub that computes on the CPU), loses it while it serves, and gets it back. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startSteadyLoad } from "../../scripts/steady-load.mjs";
import { faultyWheel } from "../support/faulty-wheel.js";
import { Sandbox } from "../support/sandbox.js";
import { eventually, servingPid, status } from "../support/serving.js";

interface Health {
  status: string;
  device: string | null;
  device_reason: string | null;
}

describe("a GPU that is lost while its service answers", () => {
  let sandbox: Sandbox;
  let fault: string;

  beforeAll(async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
    fault = join(sandbox.directory, "cuda.fault");
    writeFileSync(fault, "");
    sandbox.writeConfig({
      services: ["embedder"],
      soak: "1s",
      options: { embedder: `env: { FAULTY_CUDA: "@${fault}" }` },
    });
    await sandbox.result(["deploy"], { GPUCTL_WHEEL: faultyWheel(sandbox.directory, { gpu: true }) });
  }, 120_000);

  afterAll(async () => {
    await sandbox.close();
  });

  const health = async (): Promise<Health> => (await (await fetch(sandbox.url("embedder", "/health"))).json()) as Health;

  test("costs no request: the CPU answers meanwhile and says so, and the GPU takes over again", async () => {
    expect(await health()).toMatchObject({ status: "healthy", device: "cuda" });
    expect((await status(sandbox)).services[0]?.device).toBe("cuda");
    const pid = await servingPid(sandbox, "embedder");
    let n = 0;
    const load = startSteadyLoad(
      [{ service: "embedder", url: sandbox.url("embedder", "/embed"), body: () => ({ inputs: [`text ${String((n += 1))}`] }) }],
      10,
    );
    writeFileSync(fault, "cuda-error");
    const lost = await eventually(health, (seen) => seen.device === "cpu");
    expect(lost).toMatchObject({ status: "degraded", device_reason: "device-error" });
    expect((await fetch(sandbox.url("embedder", "/health"))).headers.get("x-gpuctl-device")).toBe("cpu");
    expect((await status(sandbox)).services[0]?.device).toBe("cpu");
    writeFileSync(fault, "");
    await eventually(health, (seen) => seen.device === "cuda" && seen.status === "healthy", 60_000);
    const { ok, failed } = await load.stop();
    expect(failed).toEqual([]);
    expect(ok).toBeGreaterThan(20);
    expect(await servingPid(sandbox, "embedder")).toBe(pid);
  }, 120_000);
});
