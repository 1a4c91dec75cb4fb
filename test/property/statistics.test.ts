import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  guardedPercentile,
  littleError,
  percentile,
  pooled,
  samplesNeeded,
  sorted,
  summarize,
} from "../../cli/src/domain/statistics.js";

const samples = fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 300 });
const quantile = fc.constantFrom(0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1);

/** The definition, word by word: the smallest sample that at least the share q of all samples does not exceed. */
function naive(values: readonly number[], q: number): number {
  const ascending = [...values].sort((a, b) => a - b);
  return ascending.find((value) => ascending.filter((other) => other <= value).length >= q * ascending.length - 1e-9) ?? NaN;
}

describe("percentiles", () => {
  it("are what the definition says, for any samples", () => {
    fc.assert(fc.property(samples, quantile, (values, q) => percentile(sorted(values), q) === naive(values, q)));
  });

  it("are values that were really seen, and rise with the quantile", () => {
    fc.assert(
      fc.property(samples, quantile, quantile, (values, a, b) => {
        const ascending = sorted(values);
        const [low, high] = [percentile(ascending, Math.min(a, b)), percentile(ascending, Math.max(a, b))];
        return low !== null && high !== null && low <= high && values.includes(low);
      }),
    );
  });

  it("of pooled runs do not depend on how the samples are spread over the runs or on their order", () => {
    fc.assert(
      fc.property(fc.array(samples, { maxLength: 5 }), (runs) => {
        const merged = pooled(runs.map((run) => Float64Array.from(run)));
        expect(merged).toEqual(pooled(runs.toReversed().map((run) => Float64Array.from(run))));
        expect(merged).toEqual(sorted(runs.flat()));
      }),
    );
  });

  it("are n/a below their sample guard and a figure from it on", () => {
    fc.assert(
      fc.property(fc.constantFrom(0.5, 0.9, 0.95, 0.99), fc.integer({ min: 0, max: 600 }), (q, n) => {
        const value = guardedPercentile(new Float64Array(n).fill(1), q);
        return (value === null) === n < samplesNeeded(q);
      }),
    );
  });
});

describe("examples", () => {
  it("the guards are those of the literature", () => {
    expect([0.5, 0.75, 0.9, 0.95, 0.99, 0.999].map(samplesNeeded)).toEqual([7, 17, 44, 90, 459, 4603]);
  });

  it("the 95th of 100 samples is the 95th and not the 96th, whatever floating point makes of 0.95 * 100", () => {
    expect(percentile(sorted(Array.from({ length: 100 }, (_, n) => n + 1)), 0.95)).toBe(95);
  });

  it("nothing was measured: every figure is n/a", () => {
    expect(summarize([])).toEqual({ n: 0, p50: null, p75: null, p90: null, p95: null, p99: null, max: null });
  });

  it("Little's law holds for ten in the system, 100 a second, 100 ms each, and not for half of them", () => {
    expect(littleError(10, 100, 0.1)).toBeCloseTo(0);
    expect(littleError(10, 50, 0.1)).toBeCloseTo(0.5);
    expect(littleError(0, 0, 0)).toBeNull();
  });
});
