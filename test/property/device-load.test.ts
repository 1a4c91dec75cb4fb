import fc from "fast-check";
import { expect, test } from "vitest";
import { hardest, recheck, stopFirstOf, strategiesOf, type DeviceLoad } from "../../cli/src/domain/device-load.js";
import { memoryMargin } from "../../cli/src/domain/placement.js";
import { mib, ms } from "../../cli/src/domain/units.js";

const gap = ms(8000);
const amount = fc.integer({ min: 0, max: 20_000 }).map(mib);
const load: fc.Arbitrary<DeviceLoad> = fc.record({
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
