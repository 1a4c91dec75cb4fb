import fc from "fast-check";
import { expect, test } from "vitest";
import { hardest, recheck, stopFirstOf, strategiesOf, type DeviceLoad } from "../../cli/src/domain/device-load.js";
import { memoryMargin, mostOnGpu } from "../../cli/src/domain/placement.js";
import { mib, ms, type MiB } from "../../cli/src/domain/units.js";

const gap = ms(8000);
const amount = fc.integer({ min: 0, max: 20_000 }).map(mib);
const load: fc.Arbitrary<DeviceLoad & { free: MiB }> = fc.record({
  place: fc.constantFrom(null, "gpu-1", "gpu-1, GPU-1", "gpu-2, GPU-2"),
  free: amount,
  total: fc.constant(mib(16_384)),
  candidates: fc.array(fc.record({ service: fc.constant("embedder" as const), peak: fc.option(amount) }), { maxLength: 3 }),
  predecessors: fc.array(fc.record({ service: fc.constant("embedder" as const), peak: amount }), { maxLength: 3 }),
  ending: amount,
});
const loads = fc.uniqueArray(load, { selector: ({ place }) => place, maxLength: 4 });
const total = (amounts: readonly number[]): number => amounts.reduce((sum, each) => sum + each, 0);

test("nobody overlaps into the margin of any card, and nobody stops what need not stop", () => {
  fc.assert(
    fc.property(loads, (given) => {
      const strategies = strategiesOf(given, gap);
      expect(strategies).toHaveLength(given.filter(({ candidates }) => candidates.length > 0).length);
      for (const { place, strategy } of strategies) {
        const one = given.find((each) => each.place === place)!;
        const peaks = one.candidates.map(({ peak }) => peak);
        if (peaks.includes(null)) {
          expect(strategy.kind).toBe("overlap");
          continue;
        }
        const left = one.free + one.ending - total(peaks as number[]);
        const margin = memoryMargin(one.total);
        expect(strategy.kind === "overlap").toBe(left > margin);
        if (strategy.kind === "stop-first")
          expect(left + total(one.predecessors.map(({ peak }) => peak))).toBeGreaterThan(margin);
      }
    }),
  );
});

test("the deploy is as hard as its hardest card, and says which", () => {
  fc.assert(
    fc.property(loads, (given) => {
      const strategies = strategiesOf(given, gap);
      const kinds = strategies.map(({ strategy }) => strategy.kind);
      const all = hardest(strategies);
      const expected = kinds.includes("refuse") ? "refuse" : kinds.includes("stop-first") ? "stop-first" : "overlap";
      expect(all.kind).toBe(expected);
      const worst = strategies.find(({ strategy }) => strategy.kind === all.kind);
      if (all.kind !== "overlap" && worst?.place != null) expect(all.because).toMatch(/^gpu-\d(?:, GPU-\d)?: /);
      const first = stopFirstOf(strategies);
      for (const { services, strategy } of strategies)
        if (strategy.kind === "stop-first") for (const service of services) expect(first.has(service)).toBe(true);
    }),
  );
});

test("a plan holds while no card got worse, and is given up when one did", () => {
  fc.assert(
    fc.property(loads, amount, (given, taken) => {
      const planned = strategiesOf(given, gap);
      expect(recheck(planned, given, gap)).toEqual({ kind: "holds" });
      const more = given.map((one) => ({ ...one, free: mib(one.free + taken) }));
      expect(recheck(planned, more, gap)).toEqual({ kind: "holds" });
      const less = given.map((one) => ({ ...one, free: mib(Math.max(0, one.free - taken)) }));
      const again = recheck(planned, less, gap);
      const worse = strategiesOf(less, gap).some(({ strategy }, i) => strategy.kind !== planned[i]!.strategy.kind);
      expect(again.kind === "changed").toBe(worse);
      if (again.kind === "changed") expect(again.because).toMatch(/was planned, and now it is (?:stop-first|refuse)/);
    }),
  );
});

test("a card that nobody planned for is no surprise to be ignored", () => {
  const one: DeviceLoad = {
    place: "gpu-1, GPU-1",
    free: mib(9000),
    total: mib(16_384),
    candidates: [{ service: "embedder", peak: mib(100) }],
    predecessors: [],
    ending: mib(0),
  };
  expect(recheck([], [one], gap)).toMatchObject({
    kind: "changed",
    because: "gpu-1, GPU-1: nothing was planned, and now it is overlap",
  });
  expect(hardest([])).toEqual({ kind: "overlap", freeAfterMiB: null });
});

/** A GPU of 16 GB with an old instance of 3 GB, and a candidate that nobody has measured. */
const unmeasured = (free: number | null, atMost: number | null, old = true): DeviceLoad => ({
  place: "gpu-1, GPU-1",
  free: free === null ? null : mib(free),
  total: mib(16_000),
  candidates: [{ service: "embedder", peak: null, atMost: atMost === null ? null : mib(atMost) }],
  predecessors: old ? [{ service: "embedder", peak: mib(3000) }] : [],
  ending: mib(0),
});

test.each([
  [unmeasured(9000, 8000), "overlap", "8000 MiB, the most for models of its size, fit"],
  [unmeasured(9000, 8201), "stop-first", "8201 MiB, the most for models of its size, may not fit in the 9000 MiB that are free"],
  [unmeasured(9000, null), "stop-first", "nobody has measured what the candidate needs on a GPU, and its size is not known"],
  [unmeasured(null, 2048), "stop-first", "the device does not say what is free"],
] as const)("beside what serves on a GPU runs only what surely fits: %j is %s", (one, kind, because) => {
  const strategies = strategiesOf([one], gap);
  expect(hardest(strategies)).toMatchObject({ kind, because: expect.stringContaining(because) as string });
  expect(recheck(strategies, [one], gap)).toEqual({ kind: "holds" });
});

test("where nothing serves yet, what nobody has measured starts", () => {
  for (const one of [unmeasured(100, 9000, false), unmeasured(null, null, false)])
    expect(hardest(strategiesOf([one], gap))).toEqual({ kind: "overlap", freeAfterMiB: null });
});

test("the most that a model takes on a GPU is four times its files, and never less than 2 GiB", () => {
  expect([mostOnGpu(mib(90)), mostOnGpu(mib(2200))]).toEqual([2048, 8800]);
});
