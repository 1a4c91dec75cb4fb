import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Arrival, arrivals, openLoopMeasureMs } from "../../cli/src/domain/schedule.js";
import { seededRandom } from "../../cli/src/domain/seeded-random.js";

function first(count: number, rate: number, arrival: Arrival, seed: number): number[] {
  const times = arrivals({ rate, arrival }, seed);
  return Array.from({ length: count }, () => times.next().value);
}

const seed = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const rate = fc.double({ min: 0.1, max: 10_000, noNaN: true });

describe("the schedule of an open loop", () => {
  it("is decided by the seed alone and never goes back in time", () => {
    fc.assert(
      fc.property(seed, rate, fc.constantFrom<Arrival>("poisson", "constant"), (s, r, arrival) => {
        const times = first(200, r, arrival, s);
        expect(times).toEqual(first(200, r, arrival, s));
        expect(times.every((at, n) => at >= (times[n - 1] ?? 0))).toBe(true);
      }),
    );
  });

  it("constant arrivals have absolute times: no rounding adds up", () => {
    fc.assert(
      fc.property(rate, (r) => Math.abs((first(1001, r, "constant", 1)[1000] ?? 0) - 1_000_000 / r) < 1e-6 * (1_000_000 / r)),
    );
  });

  it("Poisson arrivals have the mean and the spread of an exponential distribution", () => {
    fc.assert(
      fc.property(seed, (s) => {
        const times = first(20_000, 1000, "poisson", s);
        const gaps = times.map((at, n) => at - (times[n - 1] ?? 0));
        const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
        const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
        // Five standard errors: 5 / sqrt(20000) = 3.5 % for the mean, a little more for the deviation.
        expect(Math.abs(mean - 1)).toBeLessThan(0.036);
        expect(Math.abs(deviation - 1)).toBeLessThan(0.06);
      }),
      { numRuns: 30 },
    );
  });

  it("different seeds give different arrivals", () => {
    fc.assert(
      fc.property(seed, seed, (a, b) => a === b || first(5, 10, "poisson", a).join() !== first(5, 10, "poisson", b).join()),
    );
  });
});

describe("the window", () => {
  it("is lengthened until the rate yields enough requests, and never beyond its limit", () => {
    const window = { warmUpMs: 0, measureMs: 10_000, minRequests: 90, maxMeasureMs: 30_000 };
    expect(openLoopMeasureMs(window, 100)).toBe(10_000);
    expect(openLoopMeasureMs(window, 5)).toBe(18_000);
    expect(openLoopMeasureMs(window, 1)).toBe(30_000);
  });
});

describe("seeded numbers", () => {
  it("are spread evenly over their range", () => {
    fc.assert(
      fc.property(seed, fc.nat(), (s, stream) => {
        const random = seededRandom(s, stream);
        const counts = new Array<number>(10).fill(0);
        for (let n = 0; n < 10_000; n += 1) {
          const drawn = random.below(10);
          counts[drawn] = (counts[drawn] ?? 0) + 1;
        }
        return counts.every((count) => count > 800 && count < 1200);
      }),
      { numRuns: 30 },
    );
  });

  it("seeds beyond 32 bits are told apart", () => {
    expect(seededRandom(2 ** 40).next()).not.toBe(seededRandom(0).next());
  });
});
