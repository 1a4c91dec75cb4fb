import type { ServiceName } from "../domain/names.js";
import type { LoadMode } from "../domain/schedule.js";
import type { SloCheck } from "../domain/slo.js";
import type { LatencySummary } from "../domain/statistics.js";
import type { Verdict } from "../domain/verdict.js";
import type { LoadHost } from "../ports.js";

/** Everything needed to run the same measurement again, and to doubt it. */
export interface BenchHeader {
  gpuctl: string;
  /** What was typed. */
  command: string;
  startedAt: string;
  endedAt: string;
  service: ServiceName;
  url: string;
  /** Client and service share this machine. */
  sharedHost: boolean;
  model: string | null;
  revision: string | null;
  device: string;
  host: LoadHost;
  mode: LoadMode;
  quick: boolean;
  batch: number;
  unit: string;
  seed: number;
  corpus: { version: number; hash: string };
  warmUpSeconds: number;
  measuredSeconds: number;
  timeoutMs: number;
  connections: number;
}

/** Rates of successful work only; null where the service does not report what would be counted. */
export interface Throughput {
  offeredPerSecond: number | null;
  requestsPerSecond: number;
  itemsPerSecond: number;
  tokensPerSecond: number | null;
  bytesPerSecond: number;
}

export interface BenchReport {
  header: BenchHeader;
  verdict: Verdict["verdict"];
  reasons: readonly string[];
  /** Milliseconds. `response` counts from when a request was due, `service` from when its first byte was sent. */
  latency: { response: LatencySummary; service: LatencySummary; sendLag: LatencySummary; clientQueue: LatencySummary };
  sendLagLimitMs: number | null;
  hiccup: LatencySummary;
  loopBusy: number;
  throughput: Throughput;
  requests: { scheduled: number; ok: number; failed: Readonly<Record<string, number>>; timeouts: number; dropped: number };
  warmUp: { requests: number; failed: number };
  meanInFlight: number;
  littleError: number | null;
  checks: { answers: number; askedAgain: number; failed: readonly string[] };
  devices: Readonly<Record<string, number>>;
  slo: SloCheck | null;
}
