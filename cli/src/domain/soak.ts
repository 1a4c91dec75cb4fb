import type { Device, ServiceName } from "./names.js";
import { percentile, sorted } from "./statistics.js";

/** One look at an instance under live traffic. */
export interface SoakLook {
  process: "running" | "exited" | "stopped" | "stopped-by-reboot" | "absent";
  restarts: number;
  status: "healthy" | "degraded" | "loading" | "failed";
  device: Device | null;
  reason: string | null;
  /** Requests answered and those answered with 5xx, since the instance started; null when it does not count. */
  requests: { all: number; failed: number } | null;
  /** What was wrong with a probe's answer; null when it was right. */
  wrongAnswer: string | null;
}

/**
 * The device that an instance has to go on running on. None for the index: its CPU copy always answers, and a GPU's copy of
 * it is made once there is enough to copy, goes and comes back.
 */
export const heldTo = (service: ServiceName, proof: { device: Device } | null): Device | null =>
  service === "index" ? null : (proof?.device ?? null);

const largestErrorShare = 0.01;
/** Below this a single failure would decide. */
const fewestRequests = 100;

/** Why a release must not be kept, or null. `first` is the look taken when the soak began. */
export function judgeSoak(first: SoakLook, now: SoakLook, provenOn: Device | null): string | null {
  if (now.process !== "running") return `its process is ${now.process}`;
  if (now.restarts > first.restarts) return `it was restarted ${now.restarts - first.restarts} time(s)`;
  if (now.status === "failed" || now.status === "loading")
    return `it says ${now.status}${now.reason === null ? "" : ` (${now.reason})`}`;
  if (provenOn !== null && now.device !== provenOn)
    return `it was proven on ${provenOn} and now runs on ${now.device ?? "no device"}`;
  if (now.wrongAnswer !== null) return `a probe was answered wrongly: ${now.wrongAnswer}`;
  const all = (now.requests?.all ?? 0) - (first.requests?.all ?? 0);
  const failed = (now.requests?.failed ?? 0) - (first.requests?.failed ?? 0);
  if (all >= fewestRequests && failed / all > largestErrorShare)
    return `${failed} of ${all} requests were answered with a server error`;
  return null;
}

/** Traffic makes a probe wait where the gate had the candidate for itself. */
const latencyAllowance = 1.5;
/** With fewer, one hiccup of the machine would be the p95. */
const fewestLatencies = 20;

/** Why a release is too slow under live traffic, or null: its p95 against 1.5 times what the benchmark gate allows. */
export function judgeLatency(milliseconds: readonly number[], maxP95: number): string | null {
  if (milliseconds.length < fewestLatencies) return null;
  const p95 = percentile(sorted(milliseconds), 0.95) ?? 0;
  const limit = maxP95 * latencyAllowance;
  if (p95 <= limit) return null;
  return `p95 ${p95.toFixed(1)} ms of ${milliseconds.length} requests, above 1.5 times the ${maxP95} ms of its benchmark gate`;
}

/** Counts requests in Prometheus text: the `gpuctl_requests_total` series, 5xx apart. Null when there are none. */
export function countRequests(metrics: string): { all: number; failed: number } | null {
  let found = false;
  let all = 0;
  let failed = 0;
  for (const line of metrics.split("\n")) {
    const match = /^gpuctl_requests_total\{[^}]*\bcode="(\d)\d\d"[^}]*\} ([0-9.e+]+)/.exec(line);
    if (match === null) continue;
    found = true;
    const count = Number(match[2]);
    all += count;
    if (match[1] === "5") failed += count;
  }
  return found ? { all, failed } : null;
}
