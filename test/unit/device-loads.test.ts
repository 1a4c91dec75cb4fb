import { expect, test } from "vitest";
import type { ServiceRelease } from "../../cli/src/domain/release.js";
import { instanceId } from "../../cli/src/domain/release.js";
import { deviceLoads, type DeviceMemory, type StrategyInput } from "../../cli/src/domain/strategy.js";
import { mib, ms } from "../../cli/src/domain/units.js";
import { recordOf, specFor } from "../support/records.js";
import { bgeM3 } from "./compose/nodes.js";

const card: DeviceMemory = {
  device: "cuda",
  place: "gpu-1, GPU-1",
  services: ["embedder"],
  freeMiB: mib(9000),
  totalMiB: mib(16_000),
};
const old: ServiceRelease = {
  spec: specFor({ model: bgeM3 }),
  fingerprint: "c".repeat(64),
  since: "r1-00000001",
  slot: "a",
  peakMiB: 3000,
  proof: { device: "cuda", level: "process" },
};

/** What the card gets when an embedder takes over from one of a measured release. */
function loadOf(before: ServiceRelease, model: typeof bgeM3, memory: DeviceMemory = card, files: number | null = 2200) {
  const instance = {
    id: instanceId("embedder", before.since, before.slot),
    service: "embedder",
    release: before.since,
    process: "running",
    traffic: "open",
    ended: null,
    stopsInMs: null,
  } as const;
  const input: StrategyInput = {
    records: [recordOf(1, { state: "good", services: { embedder: before } })],
    observed: { managerRuns: true, instances: [instance], writer: null, unstaged: [] },
    memory: [memory],
    budgets: {},
    modelSizes: { embedder: files === null ? null : mib(files) },
    load: ms(60_000),
  };
  const placed: ServiceRelease = {
    ...before,
    spec: specFor({ model }),
    since: "r2-00000002",
    slot: "b",
    peakMiB: null,
    proof: null,
  };
  return deviceLoads(input, [{ service: "embedder", placed, old: before }])[0]!;
}

const other = { ...bgeM3, id: "acme/larger", revision: "d".repeat(40) };

test("the same model needs on a GPU what it was measured to need", () => {
  expect(loadOf(old, bgeM3).candidates).toEqual([{ service: "embedder", peak: 3000 }]);
});

test("another model is not as small as the one before it: its files say how large it can be, or nobody does", () => {
  expect(loadOf(old, other).candidates).toEqual([{ service: "embedder", peak: null, atMost: 8800 }]);
  expect(loadOf(old, other, card, null).candidates).toEqual([{ service: "embedder", peak: null, atMost: null }]);
});

test("an old one on the CPU has measured RAM, and gives back no memory of the GPU", () => {
  const onCpu: ServiceRelease = { ...old, proof: { device: "cpu", level: "self" } };
  expect(loadOf(onCpu, bgeM3)).toMatchObject({ candidates: [{ peak: null, atMost: 8800 }], predecessors: [] });
});

test("in RAM a predecessor's need stands for that of a model nobody has measured", () => {
  const ram: DeviceMemory = { ...card, device: "cpu", place: null };
  const onCpu: ServiceRelease = { ...old, proof: { device: "cpu", level: "self" } };
  expect(loadOf(onCpu, other, ram).candidates).toEqual([{ service: "embedder", peak: 3000 }]);
});
