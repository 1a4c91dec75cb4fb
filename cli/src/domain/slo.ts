import type { Slo } from "./config/resolved.js";

export interface SloCheck {
  /** Limits as configured. */
  p95Ms: number;
  errorRate: number;
  met: boolean;
  /** What was missed, one sentence each; empty when met. */
  missed: readonly string[];
}

/**
 * Compares a measurement with an SLO. A p95 that too few samples support cannot show that the SLO is met.
 * @param measured response time from the scheduled moment, and the share of requests that were not answered well
 */
export function checkSlo(slo: Slo, measured: { p95: number | null; errorRate: number }): SloCheck {
  const missed: string[] = [];
  if (measured.p95 === null) missed.push("p95 is n/a: too few requests to compare it with the SLO");
  else if (measured.p95 > slo.p95) missed.push(`p95 ${measured.p95.toFixed(1)} ms is above the SLO of ${String(slo.p95)} ms`);
  if (measured.errorRate > slo.errorRate)
    missed.push(`${percent(measured.errorRate)} of the requests failed, above the SLO of ${percent(slo.errorRate)}`);
  return { p95Ms: slo.p95, errorRate: slo.errorRate, met: missed.length === 0, missed };
}

const percent = (share: number): string => `${Number((share * 100).toFixed(2)).toString()} %`;
