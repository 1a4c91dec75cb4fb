/**
 * Percentiles come from raw samples, never from a histogram, and are never averaged over runs:
 * several runs are merged by pooling their samples.
 */

/** Milliseconds; null where too few samples support the figure. */
export interface LatencySummary {
  n: number;
  p50: number | null;
  p75: number | null;
  p90: number | null;
  p95: number | null;
  p99: number | null;
  max: number | null;
}

/** Samples in ascending order. Samples must be finite. */
export function sorted(samples: Iterable<number>): Float64Array {
  return Float64Array.from(samples).sort();
}

/** Pools the samples of several runs; the order of the runs does not matter. */
export function pooled(runs: readonly Float64Array[]): Float64Array {
  const all = new Float64Array(runs.reduce((total, run) => total + run.length, 0));
  let offset = 0;
  for (const run of runs) {
    all.set(run, offset);
    offset += run.length;
  }
  return all.sort();
}

/**
 * The smallest sample that at least the share `quantile` of all samples does not exceed (nearest rank: always a value
 * that was really seen). Null without samples.
 */
export function percentile(ascending: Float64Array, quantile: number): number | null {
  if (ascending.length === 0) return null;
  // The product can land a hair above a whole number (0.95 * 100 = 95.00000000000001): that is not a reason for the next rank.
  const rank = Math.ceil(quantile * ascending.length - 1e-9);
  return ascending[Math.min(ascending.length, Math.max(1, rank)) - 1] ?? null;
}

/**
 * Samples that a percentile needs: at 99 % confidence at least one of n samples lies above the true quantile.
 * p50 7, p75 17, p90 44, p95 90, p99 459, p99.9 4603.
 */
export function samplesNeeded(quantile: number): number {
  return Math.ceil(Math.log(0.01) / Math.log(quantile));
}

/** The percentile, or null (printed `n/a`) below its sample guard. */
export function guardedPercentile(ascending: Float64Array, quantile: number): number | null {
  return ascending.length < samplesNeeded(quantile) ? null : percentile(ascending, quantile);
}

export function summarize(samples: Iterable<number>): LatencySummary {
  const ascending = sorted(samples);
  return {
    n: ascending.length,
    p50: guardedPercentile(ascending, 0.5),
    p75: guardedPercentile(ascending, 0.75),
    p90: guardedPercentile(ascending, 0.9),
    p95: guardedPercentile(ascending, 0.95),
    p99: guardedPercentile(ascending, 0.99),
    max: ascending.at(-1) ?? null,
  };
}

/** Null without samples. */
export function mean(samples: readonly number[] | Float64Array): number | null {
  if (samples.length === 0) return null;
  let sum = 0;
  for (const sample of samples) sum += sample;
  return sum / samples.length;
}

/**
 * Little's law as a check of the measurement itself: the number in the system, observed on its own, must be the arrival
 * rate times the mean time in the system. Returns |L - lambda W| / L, or null when nothing was in flight.
 */
export function littleError(inSystem: number, arrivalsPerSecond: number, meanSeconds: number): number | null {
  return inSystem > 0 ? Math.abs(inSystem - arrivalsPerSecond * meanSeconds) / inSystem : null;
}
