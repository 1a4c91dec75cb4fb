import { expect, test } from "vitest";
import { SeenNodes } from "../../../../cli/src/adapters/nodes/seen-nodes.js";
import type { GpuContainerProbe } from "../../../../cli/src/domain/preflight/gpu-container.js";
import { factsOf } from "../../preflight/captures.js";

const gpu = "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d";
const device = `nvidia.com/gpu=${gpu}`;
const probe: GpuContainerProbe = { image: "services:1", gpu, device, as: "sudo", name: "p", look: "nvidia-smi" };
const good = { probe, result: { code: 0, stdout: `GPU 0: Tesla T4 (UUID: ${gpu})\n`, stderr: "" } };

test("a node is what it was at the last look, with how its GPU containers ended", () => {
  let minute = 0;
  const seen = new SeenNodes({ now: () => new Date(Date.UTC(2026, 2, 1, 12, minute++)) });
  const facts = factsOf("t4-ubuntu");
  seen.tried("gpu-1", facts, good);
  expect(seen.all()).toEqual([]);
  seen.looked("gpu-1", facts);
  seen.tried("gpu-1", facts, good);
  const [kept, ...others] = seen.all();
  expect(others).toEqual([]);
  expect(kept).toMatchObject({ node: "gpu-1", seenAt: "2026-03-01T12:00:00.000Z" });
  expect(kept?.details?.gpuContainers).toEqual([
    { device, what: expect.stringMatching(/starts and sees GPU 0/) as string, at: "2026-03-01T12:01:00.000Z" },
  ]);
  seen.tried("gpu-1", facts, { probe, result: null });
  expect(seen.all()[0]?.details?.gpuContainers).toMatchObject([{ device, what: "a container with the GPU did not end in time" }]);
});
