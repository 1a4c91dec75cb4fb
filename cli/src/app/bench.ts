import { corpusVersion, seededCorpus, type Corpus } from "../bench/corpus.js";
import { figuresOf, type Figures } from "../bench/figures.js";
import type { BenchHeader, BenchReport } from "../bench/report.js";
import type { Workload } from "../bench/workload.js";
import type { LoadMode, Window } from "../domain/schedule.js";
import { checkSlo } from "../domain/slo.js";
import { decide, type Evidence, requestsNeeded } from "../domain/verdict.js";
import type { Milliseconds } from "../domain/units.js";
import type { Clock, HttpClient, LoadGenerator, LoadHost, LoadPlan, LoadSamples, Progress } from "../ports.js";
import { checkAnswers, type Checks } from "./bench-checks.js";
import { type BenchTarget, describeService, type ServiceFacts, uncached } from "./bench-target.js";
import { makeWorkload } from "./bench-workloads.js";

/** What the use case touches. */
export interface BenchTools {
  http: HttpClient;
  clock: Clock;
  load: LoadGenerator;
  host: LoadHost;
  progress: Progress;
  signal: AbortSignal;
  gpuctlVersion: string;
}

export interface BenchRequest {
  /** Measured one after the other. */
  targets: readonly BenchTarget[];
  /** Asked for vectors of real queries when the index is measured; null when there is none. */
  embedder: BenchTarget | null;
  mode: LoadMode;
  quick: boolean;
  warmUp: Milliseconds;
  duration: Milliseconds;
  timeout: Milliseconds;
  seed: number;
  /** Items a request carries; null for the workload's own default. */
  batch: number | null;
  connections: number;
  /** What was typed, for the report. */
  command: string;
}

export interface BenchResult {
  reports: readonly BenchReport[];
  /** Every verdict is valid and every configured SLO was met: what `--gate` asks. */
  passed: boolean;
}

const keptAnswers = 200;
const maxUnanswered = 20_000;

/** Measures services under load, one after the other, and says of each measurement whether it can be trusted. */
export async function bench(tools: BenchTools, request: BenchRequest): Promise<BenchResult> {
  const corpus = seededCorpus(request.seed);
  const reports: BenchReport[] = [];
  for (const target of request.targets) {
    if (target.tunnelled)
      tools.progress.emit({ kind: "warning", text: `the ${target.service} is reached by SSH, whose time is in every figure` });
    const facts = await describeService(tools, target);
    reports.push(await measure(tools, request, target, facts, corpus));
  }
  return { reports, passed: reports.every((report) => report.verdict !== "INVALID" && report.slo?.met !== false) };
}

async function measure(
  tools: BenchTools,
  request: BenchRequest,
  target: BenchTarget,
  facts: ServiceFacts,
  corpus: Corpus,
): Promise<BenchReport> {
  const workload = await makeWorkload(tools, request, target, facts, corpus);
  const startedAt = tools.clock.now().toISOString();
  const samples = await tools.load.run(planOf(request, target, workload), tools.signal, tickReporter(tools.progress, target));
  const endedAt = tools.clock.now().toISOString();
  const checks = await checkAnswers(tools, target, workload, samples);
  const figures = figuresOf(samples, request.timeout, request.mode.kind === "open");
  const { verdict, reasons, sendLagLimitMs } = decide(evidenceOf(request, target, figures, samples, checks));
  const { failed, timeouts, dropped, scheduled, ok } = figures.requests;
  return {
    header: headerOf(tools, request, { target, facts, workload, samples, corpus, startedAt, endedAt, devices: figures.devices }),
    verdict,
    reasons,
    sendLagLimitMs,
    ...figures,
    requests: { scheduled, ok, failed, timeouts, dropped },
    checks,
    slo:
      target.slo === null
        ? null
        : checkSlo(target.slo, {
            p95: figures.latency.response.p95,
            errorRate: scheduled === 0 ? 0 : (scheduled - ok) / scheduled,
          }),
  };
}

/** Progress in whole seconds; never shown as finished, because a slow service gets more time. */
function tickReporter(progress: Progress, target: BenchTarget): (tick: { elapsedMs: number; totalMs: number }) => void {
  let last = -1;
  return ({ elapsedMs, totalMs }) => {
    const total = Math.ceil(totalMs / 1000);
    const done = Math.min(Math.floor(elapsedMs / 1000), total - 1);
    if (done <= last) return;
    last = done;
    progress.emit({ kind: "amount", label: `bench ${target.service}`, done, total, unit: "s" });
  };
}

function planOf(request: BenchRequest, target: BenchTarget, workload: Workload): LoadPlan {
  return {
    base: target.address.base,
    headers: uncached(target.address.headers),
    mode: request.mode,
    window: windowOf(request),
    seed: request.seed,
    timeout: request.timeout,
    connections: request.mode.kind === "closed" ? request.mode.concurrency : request.connections,
    maxUnanswered,
    keep: keptAnswers,
    request: (ordinal) => workload.request(ordinal),
    tokens: workload.tokens,
  };
}

/** A slow service gets more time, up to three times the duration, to answer enough requests for a p95. */
function windowOf(request: BenchRequest): Window {
  // Slots that are half way through a request at the edges of the window must weigh little in it.
  const edges = request.mode.kind === "closed" ? 20 * request.mode.concurrency : 0;
  return {
    warmUpMs: request.warmUp,
    measureMs: request.duration,
    minRequests: Math.max(requestsNeeded, edges),
    maxMeasureMs: Math.max(3 * request.duration, request.duration + 30_000),
  };
}

function evidenceOf(
  request: BenchRequest,
  target: BenchTarget,
  figures: Figures,
  samples: LoadSamples,
  checks: Checks,
): Evidence {
  const { warmUp, requests, latency, throughput } = figures;
  const warmUpFailed =
    warmUp.failed > 0 ? [`${String(warmUp.failed)} of ${String(warmUp.requests)} requests failed during warm-up`] : [];
  return {
    mode: request.mode.kind,
    quick: request.quick,
    sharedHost: target.sharedHost,
    n: requests.ok + Object.values(requests.failed).reduce((total, count) => total + count, 0) + requests.timeouts,
    ...requests,
    p50: latency.response.p50,
    sendLagP99: latency.sendLag.p99 ?? latency.sendLag.max,
    hiccupP90: figures.hiccup.p90 ?? figures.hiccup.max,
    hiccupP99: figures.hiccup.p99 ?? figures.hiccup.max,
    offeredPerSecond: throughput.offeredPerSecond,
    achievedPerSecond: throughput.requestsPerSecond,
    backlogGrowth: samples.inFlightAtEnd - samples.inFlightAtStart,
    meanInFlight: samples.meanInFlight,
    littleError: figures.littleError,
    devices: figures.devices,
    fromCache: samples.fromCache,
    unranked: samples.unranked,
    deviceWished: target.deviceWished,
    checksFailed: [...warmUpFailed, ...checks.failed],
    checked: checks.answers,
  };
}

interface Measured {
  target: BenchTarget;
  facts: ServiceFacts;
  workload: Workload;
  samples: LoadSamples;
  corpus: Corpus;
  startedAt: string;
  endedAt: string;
  devices: Readonly<Record<string, number>>;
}

function headerOf(tools: BenchTools, request: BenchRequest, measured: Measured): BenchHeader {
  const { target, facts, workload, samples, corpus, startedAt, endedAt, devices } = measured;
  return {
    gpuctl: tools.gpuctlVersion,
    command: request.command,
    startedAt,
    endedAt,
    service: target.service,
    url: target.address.base,
    sharedHost: target.sharedHost,
    model: facts.model,
    revision: facts.revision,
    device: Object.keys(devices).sort().join(" then ") || "unstated",
    host: tools.host,
    mode: request.mode,
    quick: request.quick,
    batch: workload.batch,
    unit: workload.unit,
    seed: request.seed,
    corpus: { version: corpusVersion, hash: corpus.hash },
    warmUpSeconds: samples.warmUpMs / 1000,
    measuredSeconds: samples.measureMs / 1000,
    timeoutMs: request.timeout,
    connections: request.mode.kind === "closed" ? request.mode.concurrency : request.connections,
  };
}
