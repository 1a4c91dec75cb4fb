import type { LoadMode } from "../domain/schedule.js";
import type { LatencySummary } from "../domain/statistics.js";
import type { BenchHeader, BenchReport } from "./report.js";

/** The reports as text for a terminal: verdict first, then what was done, then the figures. */
export function benchTable(reports: readonly BenchReport[]): string {
  return reports.map((report) => oneReport(report).join("\n")).join("\n\n");
}

function oneReport(report: BenchReport): string[] {
  const { header } = report;
  return [
    `bench ${header.service}  ${report.verdict}${header.quick ? "  (quick: not for publication)" : ""}`,
    ...report.reasons.map((reason) => `  ! ${reason}`),
    "",
    ...headerLines(header),
    "",
    ...latencyLines(report),
    "",
    ...rateLines(report),
    ...sloLines(report),
  ];
}

function headerLines(header: BenchHeader): string[] {
  const { host } = header;
  // An index has no model of its own: the generation of its vectors names the one that made them.
  const model = [header.model, header.revision].filter((part) => part !== null).join(" @ ") || "not stated";
  const shared = header.sharedHost ? ", shared by client and service" : ", client only";
  const retried = `seed ${String(header.seed)}, corpus ${header.corpus.hash.slice(0, 12)} (v${String(header.corpus.version)})`;
  return [
    line("service", `${header.url}, device ${header.device}`),
    line("model", model),
    line("host", `${host.cpu}, ${String(host.cores)} cores${shared}`),
    line("", `${String(Math.round(host.memoryMiB / 1024))} GiB, ${host.os}, Node ${host.node}, gpuctl ${header.gpuctl}`),
    line("load", `${describeMode(header.mode)}, ${String(header.batch)} ${header.unit} a request`),
    line("", `${String(header.connections)} connections at most, timeout ${seconds(header.timeoutMs / 1000)}, ${retried}`),
    line("window", `${seconds(header.warmUpSeconds)} warm-up, then ${seconds(header.measuredSeconds)} measured, in one run`),
    line("", `${header.startedAt} to ${header.endedAt}`),
    line("command", header.command),
  ];
}

/** `open loop, 50 requests/s, Poisson arrivals`. */
export function describeMode(mode: LoadMode): string {
  if (mode.kind === "closed") return `closed loop, concurrency ${String(mode.concurrency)}`;
  return `open loop, ${String(mode.rate)} requests/s, ${mode.arrival === "poisson" ? "Poisson" : "constant"} arrivals`;
}

function latencyLines(report: BenchReport): string[] {
  const { response, service, sendLag, clientQueue } = report.latency;
  const limit = report.sendLagLimitMs === null ? "" : `   p99 limit ${report.sendLagLimitMs.toFixed(1)}`;
  const open = report.header.mode.kind === "open";
  return [
    `${"milliseconds".padEnd(24)}${["p50", "p75", "p90", "p95", "p99", "max"].map((name) => name.padStart(9)).join("")}`,
    row(open ? "response (from due)" : "response (slot free)", response),
    row("service (from send)", service),
    row("client queue", clientQueue),
    `${row("send lag", sendLag)}${limit}`,
    row("generator hiccup", report.hiccup),
  ];
}

function row(name: string, summary: LatencySummary): string {
  const { p50, p75, p90, p95, p99, max } = summary;
  return name.padEnd(24) + [p50, p75, p90, p95, p99, max].map((value) => figure(value).padStart(9)).join("");
}

function rateLines(report: BenchReport): string[] {
  const { throughput: rate, requests, checks, warmUp } = report;
  const offered = rate.offeredPerSecond === null ? "" : ` of ${number(rate.offeredPerSecond)} offered`;
  const items = report.header.unit === "queries" ? "queries" : report.header.unit === "texts" ? "docs (texts)" : "docs";
  const tokens = rate.tokensPerSecond === null ? "n/a" : number(rate.tokensPerSecond);
  const failed = Object.values(requests.failed).reduce((total, count) => total + count, 0);
  const little = report.littleError === null ? "n/a" : `${(report.littleError * 100).toFixed(1)} % off`;
  return [
    line("throughput", `${number(rate.requestsPerSecond)} requests/s${offered}, ${number(rate.itemsPerSecond)} ${items}/s`),
    line("", `${tokens} tokens/s, ${number(rate.bytesPerSecond / 1000)} kB/s received`),
    line(
      "requests",
      `${number(requests.scheduled)}: ${number(requests.ok)} ok, ${number(failed)} failed, ${number(requests.timeouts)} timed out, ${number(requests.dropped)} dropped (warm-up: ${number(warmUp.requests)}, ${number(warmUp.failed)} failed)`,
    ),
    line(
      "in flight",
      `${number(report.meanInFlight)} on average, Little's law ${little}, generator busy ${(report.loopBusy * 100).toFixed(0)} %`,
    ),
    line(
      "checks",
      `${checkNames[report.header.service]} of ${number(checks.answers)} answers, ${number(checks.askedAgain)} asked again: ${checks.failed.length > 0 ? "failed" : checks.answers > 0 ? "ok" : "none"}`,
    ),
  ];
}

const checkNames = {
  embedder: "count, dimension, finite, norm and order",
  reranker: "count, indices, finite and order",
  index: "count, ids, finite and order",
} as const;

function sloLines(report: BenchReport): string[] {
  if (report.slo === null) return [];
  const limits = `p95 at most ${String(report.slo.p95Ms)} ms, errors at most ${number(report.slo.errorRate * 100)} %`;
  return [line("slo", `${report.slo.met ? "met" : "MISSED"} (${limits})`), ...report.slo.missed.map((missed) => `  ! ${missed}`)];
}

const line = (name: string, text: string): string => `${name.padEnd(11)}${text}`;
const seconds = (value: number): string => `${String(Number(value.toFixed(1)))} s`;
const figure = (value: number | null): string =>
  value === null ? "n/a" : value >= 1000 ? value.toFixed(0) : value.toFixed(value < 10 ? 2 : 1);
const number = (value: number): string => value.toLocaleString("en-US", { maximumFractionDigits: value < 100 ? 1 : 0 });
