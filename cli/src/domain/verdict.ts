import { samplesNeeded } from "./statistics.js";

/** Everything the verdict looks at. Times in milliseconds. */
export interface Evidence {
  mode: "open" | "closed";
  quick: boolean;
  /** Client and service share this machine, and so its cores. */
  sharedHost: boolean;
  n: number;
  /** Requests whose time fell into the window; each must have ended up as ok, failed, timed out or dropped. */
  scheduled: number;
  ok: number;
  failed: Readonly<Record<string, number>>;
  timeouts: number;
  dropped: number;
  p50: number | null;
  sendLagP99: number | null;
  /** How late the generator's own timers fired: pauses that no request happened to see (a closed loop has no send lag). */
  hiccupP90: number | null;
  hiccupP99: number | null;
  offeredPerSecond: number | null;
  achievedPerSecond: number;
  /** Requests in the system at the end of the window minus at its start. */
  backlogGrowth: number;
  meanInFlight: number;
  littleError: number | null;
  /** How many answers named each device; an answer without the header counts under `unstated`. */
  devices: Readonly<Record<string, number>>;
  deviceWished: "cuda" | "mps" | "cpu" | "auto";
  /** Texts or documents that the service answered from a cache. */
  fromCache: number;
  /** Documents that a substitute left unranked. */
  unranked: number;
  /** Sentences of the response checks that failed. */
  checksFailed: readonly string[];
  checked: number;
}

export interface Verdict {
  verdict: "VALID" | "VALID (shared host)" | "INVALID";
  /** Every reason, not only the first. Empty when valid. */
  reasons: readonly string[];
  sendLagLimitMs: number | null;
}

/** The measurement must at least support a p95, the percentile that SLOs speak of. */
export const requestsNeeded = samplesNeeded(0.95);

/** Says whether the figures can be trusted, with every reason why not. */
export function decide(evidence: Evidence): Verdict {
  const relaxed = evidence.sharedHost && (evidence.quick || evidence.mode === "closed");
  const limit = evidence.p50 === null ? null : sendLagLimit(evidence.p50, relaxed);
  const reasons = [
    ...generatorReasons(evidence, limit, relaxed),
    ...loadReasons(evidence),
    ...outcomeReasons(evidence),
    ...deviceReasons(evidence),
    ...cacheReasons(evidence),
    ...substituteReasons(evidence),
    ...evidence.checksFailed,
    ...(evidence.checked === 0 && evidence.ok > 0 ? ["no answer was checked"] : []),
  ];
  const valid = relaxed ? "VALID (shared host)" : "VALID";
  return { verdict: reasons.length > 0 ? "INVALID" : valid, reasons, sendLagLimitMs: limit };
}

const refusedForLoad =
  "429 means that the service sheds load: offer less (--rate, --concurrency), or raise its rateLimit (for each key) or maxQueueTokens";

/** A request sent late measures the generator. Where both sides share cores, some of it cannot be avoided. */
export function sendLagLimit(p50: number, relaxed: boolean): number {
  return relaxed ? Math.max(10, 0.1 * p50) : Math.max(3, 0.05 * p50);
}

/**
 * On cores that are shared with a busy service single timers are late by tens of milliseconds without moving any figure but
 * the maximum, so there one in ten must be late; on a host of its own one in a hundred.
 */
function generatorReasons(evidence: Evidence, limit: number | null, relaxed: boolean): string[] {
  const reasons: string[] = [];
  if (limit === null) return reasons;
  const late = (name: string, value: number | null): void => {
    if (value !== null && value > limit) reasons.push(`the load generator was late: ${name} ${ms(value)} is above ${ms(limit)}`);
  };
  late("send lag p99", evidence.sendLagP99);
  if (relaxed) late("timer hiccup p90", evidence.hiccupP90);
  else late("timer hiccup p99", evidence.hiccupP99);
  return reasons;
}

function loadReasons(evidence: Evidence): string[] {
  const reasons: string[] = [];
  if (evidence.n < requestsNeeded)
    reasons.push(`${String(evidence.n)} requests were measured, p95 needs ${String(requestsNeeded)}: use a longer --duration`);
  if (evidence.offeredPerSecond !== null && fellBehind(evidence))
    reasons.push(
      `achieved ${evidence.achievedPerSecond.toFixed(1)} of ${evidence.offeredPerSecond.toFixed(1)} requests/s offered: below 99 %`,
    );
  if (evidence.littleError !== null && evidence.littleError > 0.05)
    reasons.push(
      `Little's law is off by ${(evidence.littleError * 100).toFixed(1)} % (limit 5 %): the load was not steady or samples are missing`,
    );
  return reasons;
}

/**
 * Below 99 % means: more than 1 % of the arrivals piled up. A few requests are in flight at both edges of the window by
 * chance, which is noise of about the square root of their number and no reason by itself.
 */
function fellBehind(evidence: Evidence): boolean {
  const byChance = 3 * Math.sqrt(2 * evidence.meanInFlight) + 1;
  return evidence.backlogGrowth > Math.max(0.01 * evidence.scheduled, byChance);
}

function outcomeReasons(evidence: Evidence): string[] {
  const reasons: string[] = [];
  const failures = Object.entries(evidence.failed).sort(([a], [b]) => a.localeCompare(b));
  const failed = failures.reduce((total, [, count]) => total + count, 0);
  if (failed > 0)
    reasons.push(
      `${String(failed)} of ${String(evidence.scheduled)} requests failed: ${failures.map(([what, n]) => `${what} x${String(n)}`).join(", ")}`,
    );
  if ((evidence.failed["http 429"] ?? 0) > 0) reasons.push(refusedForLoad);
  if (evidence.timeouts > 0) reasons.push(`${String(evidence.timeouts)} of ${String(evidence.scheduled)} requests timed out`);
  if (evidence.dropped > 0)
    reasons.push(
      `${String(evidence.dropped)} of ${String(evidence.scheduled)} requests were dropped by the generator: too many were unanswered`,
    );
  const uncounted = evidence.scheduled - evidence.ok - failed - evidence.timeouts - evidence.dropped;
  if (uncounted !== 0) reasons.push(`${String(uncounted)} requests are unaccounted for`);
  return reasons;
}

function deviceReasons(evidence: Evidence): string[] {
  const named = Object.keys(evidence.devices).filter((device) => device !== "unstated");
  const wished = evidence.deviceWished;
  if (named.length > 1) return [`the device changed during the measurement: ${named.sort().join(", ")}`];
  if (wished === "auto" || wished === "cpu") return [];
  if (named.length === 0) return [`no answer said on which device it was computed, and ${wished} was wished`];
  return named[0] === wished ? [] : [`answers came from ${String(named[0])}, and ${wished} was wished`];
}

/** gpuctl asks for uncached answers; a service that gives others all the same was not measured. */
function cacheReasons(evidence: Evidence): string[] {
  if (evidence.fromCache === 0) return [];
  return [`${String(evidence.fromCache)} answers came out of the service's cache: the figures say nothing of the model`];
}

/** A substitute ranks the first documents only: its figures are those of smaller requests than were asked. */
function substituteReasons(evidence: Evidence): string[] {
  if (evidence.unranked === 0) return [];
  return [
    `${String(evidence.unranked)} documents were not ranked, because a substitute answers and ranks the first ones only: gpuctl health says why; a smaller --batch measures the substitute`,
  ];
}

const ms = (value: number): string => `${value.toFixed(1)} ms`;
