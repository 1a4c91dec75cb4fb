import { littleError, mean, summarize } from "../domain/statistics.js";
import type { LoadSamples } from "../ports.js";
import type { BenchReport, Throughput } from "./report.js";

/** The figures of a report that follow from the raw samples alone. */
export type Figures = Pick<
  BenchReport,
  "latency" | "hiccup" | "loopBusy" | "throughput" | "requests" | "warmUp" | "meanInFlight" | "littleError" | "devices"
>;

/**
 * A request that was not answered well took at least until its deadline for whoever waited for it: failures, timeouts
 * and drops are in both latency distributions at the timeout, and never make a service look faster.
 */
export function figuresOf(samples: LoadSamples, timeoutMs: number, open: boolean): Figures {
  const rows = Array.from(samples.due, (due, n) => ({
    due,
    dispatched: samples.dispatched[n] ?? NaN,
    sent: samples.sent[n] ?? NaN,
    done: samples.done[n] ?? NaN,
    ok: samples.outcome[n] === 0,
    dropped: samples.outcomes[samples.outcome[n] ?? 0] === "dropped",
  }));
  const seconds = samples.measureMs / 1000;
  // Observed and computed over the same interval: from when the generator let go of a request to when it ended.
  const entered = rows.filter(({ dropped }) => !dropped);
  const inSystem = entered.map(({ dispatched, done }) => (Number.isNaN(done) ? timeoutMs : done - dispatched));
  return {
    latency: {
      response: summarize(rows.map(({ due, done, ok }) => (ok ? done - due : timeoutMs))),
      service: summarize(rows.map(({ sent, done, ok }) => (ok ? done - sent : timeoutMs))),
      sendLag: summarize(rows.map(({ due, dispatched }) => dispatched - due)),
      clientQueue: summarize(rows.filter(({ sent }) => !Number.isNaN(sent)).map(({ dispatched, sent }) => sent - dispatched)),
    },
    hiccup: summarize(samples.hiccups),
    loopBusy: samples.loopBusy,
    throughput: throughputOf(samples, open),
    requests: countOutcomes(samples),
    warmUp: samples.warmUp,
    meanInFlight: samples.meanInFlight,
    littleError: littleError(samples.meanInFlight, entered.length / seconds, (mean(inSystem) ?? 0) / 1000),
    devices: samples.devices,
  };
}

function throughputOf(samples: LoadSamples, open: boolean): Throughput {
  const seconds = samples.measureMs / 1000;
  const { requests, items, tokens, bytes } = samples.completedInWindow;
  return {
    offeredPerSecond: open ? samples.due.length / seconds : null,
    requestsPerSecond: requests / seconds,
    itemsPerSecond: items / seconds,
    tokensPerSecond: Number.isNaN(tokens) || requests === 0 ? null : tokens / seconds,
    bytesPerSecond: bytes / seconds,
  };
}

function countOutcomes(samples: LoadSamples): BenchReport["requests"] {
  const counts: Record<string, number> = {};
  for (const code of samples.outcome) {
    const outcome = samples.outcomes[code] ?? "unknown";
    counts[outcome] = (counts[outcome] ?? 0) + 1;
  }
  const { ok = 0, timeout: timeouts = 0, dropped = 0, ...failed } = counts;
  return { scheduled: samples.due.length, ok, failed, timeouts, dropped };
}
