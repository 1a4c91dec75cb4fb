import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import type { BenchReport } from "../../../cli/src/bench/report.js";
import { benchTable } from "../../../cli/src/bench/table.js";
import type { LatencySummary } from "../../../cli/src/domain/statistics.js";
import { mib } from "../../../cli/src/domain/units.js";

const summary = (p50: number, change: Partial<LatencySummary> = {}): LatencySummary => ({
  n: 1000,
  p50,
  p75: p50 * 1.1,
  p90: p50 * 1.3,
  p95: p50 * 1.5,
  p99: p50 * 2,
  max: p50 * 4,
  ...change,
});

const report: BenchReport = {
  header: {
    gpuctl: "0.1.0",
    command: "gpuctl bench embed --rate 50",
    startedAt: "2026-11-21T05:00:00.000Z",
    endedAt: "2026-11-21T05:01:10.000Z",
    service: "embedder",
    url: "http://10.0.0.5:8001",
    sharedHost: false,
    model: "sentence-transformers/all-MiniLM-L6-v2",
    revision: "0.1.0-53aa51172d14",
    device: "cpu",
    host: { cpu: "A CPU", cores: 8, memoryMiB: mib(32768), node: "24.21.0", os: "Linux 6.18" },
    mode: { kind: "open", rate: 50, arrival: "poisson" },
    quick: false,
    batch: 8,
    unit: "texts",
    seed: 42,
    corpus: { version: 1, hash: "f2fe8e0501940000" },
    warmUpSeconds: 10,
    measuredSeconds: 60,
    timeoutMs: 30_000,
    connections: 256,
  },
  verdict: "VALID",
  reasons: [],
  sendLagLimitMs: 3,
  latency: { response: summary(20), service: summary(19), sendLag: summary(0.6), clientQueue: summary(0.2) },
  hiccup: summary(0.1),
  loopBusy: 0.08,
  throughput: {
    offeredPerSecond: 50.1,
    requestsPerSecond: 50,
    itemsPerSecond: 400,
    tokensPerSecond: 36_123.4,
    bytesPerSecond: 842_000,
  },
  requests: { scheduled: 3006, ok: 3006, failed: {}, timeouts: 0, dropped: 0 },
  warmUp: { requests: 501, failed: 0 },
  meanInFlight: 1.04,
  littleError: 0.003,
  checks: { answers: 200, askedAgain: 3, failed: [] },
  devices: { cpu: 3006 },
  slo: { p95Ms: 100, errorRate: 0.01, met: true, missed: [] },
};

const invalid: BenchReport = {
  ...report,
  header: {
    ...report.header,
    service: "index",
    unit: "queries",
    batch: 1,
    quick: true,
    sharedHost: true,
    model: null,
    revision: "BAAI/bge-m3@5617a9f61b02|cls|normalized||1024",
    mode: { kind: "closed", concurrency: 2 },
  },
  verdict: "INVALID",
  reasons: ["3 of 60 requests failed: http 503 x3", "60 requests were measured, p95 needs 90: use a longer --duration"],
  latency: { ...report.latency, response: summary(1500, { p95: null, p99: null }) },
  throughput: {
    offeredPerSecond: null,
    requestsPerSecond: 5.7,
    itemsPerSecond: 5.7,
    tokensPerSecond: null,
    bytesPerSecond: 43_000,
  },
  requests: { scheduled: 60, ok: 57, failed: { "http 503": 3 }, timeouts: 0, dropped: 0 },
  checks: { answers: 0, askedAgain: 0, failed: [] },
  slo: { p95Ms: 100, errorRate: 0.01, met: false, missed: ["p95 is n/a: too few requests to compare it with the SLO"] },
};

describe("the table of a benchmark", () => {
  it("is what a person reads: verdict and reasons first, n/a where there are too few samples", async () => {
    const golden = new URL("../../golden/bench/table.txt", import.meta.url);
    expect(`${benchTable([report, invalid])}\n`).toBe(await readFile(golden, "utf8"));
  });
});
