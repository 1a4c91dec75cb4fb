import type { BenchRequest } from "./bench.js";
import type { Arrival, LoadMode } from "../domain/schedule.js";
import { parseDuration } from "../domain/config/quantities.js";
import { UsageError } from "../domain/errors.js";
import { ms, type Milliseconds } from "../domain/units.js";

/** What was typed after `gpuctl bench`; undefined where nothing was. */
export interface BenchFlags {
  rate?: string | undefined;
  arrival: Arrival;
  concurrency?: number | undefined;
  duration?: string | undefined;
  "warm-up"?: string | undefined;
  timeout: string;
  seed: number;
  quick: boolean;
  batch?: number | undefined;
  connections: number;
  command: string;
}

const full = { duration: ms(60_000), warmUp: ms(10_000), concurrency: 4 };
const quick = { duration: ms(10_000), warmUp: ms(3_000), concurrency: 2 };

/** Turns flags into a measurement, with the defaults of a full or a quick one. */
export function benchRequest(flags: BenchFlags): Omit<BenchRequest, "targets" | "embedder"> {
  const defaults = flags.quick ? quick : full;
  return {
    mode: modeOf(flags, defaults.concurrency),
    quick: flags.quick,
    duration: duration("--duration", flags.duration, defaults.duration, 1_000),
    warmUp: duration("--warm-up", flags["warm-up"], defaults.warmUp, 0),
    timeout: duration("--timeout", flags.timeout, ms(30_000), 1),
    seed: flags.seed,
    batch: flags.batch ?? null,
    connections: flags.connections,
    command: flags.command,
  };
}

function modeOf(flags: BenchFlags, concurrency: number): LoadMode {
  if (flags.rate !== undefined) return { kind: "open", rate: requestsPerSecond(flags.rate), arrival: flags.arrival };
  return { kind: "closed", concurrency: flags.concurrency ?? concurrency };
}

function requestsPerSecond(typed: string): number {
  const value = /^\d+(\.\d+)?$/.test(typed) ? Number(typed) : 0;
  if (value > 0 && value <= 100_000) return value;
  throw new UsageError(`--rate ${typed} is no rate that can be used`, {
    because: "it is a number of requests a second, above 0 and at most 100000",
    nextSteps: ["gpuctl bench embed --rate 50"],
  });
}

function duration(flag: string, typed: string | undefined, otherwise: Milliseconds, least: number): Milliseconds {
  if (typed === undefined) return otherwise;
  const value = /^\d+(\.\d+)?$/.test(typed) ? ms(Number(typed) * 1000) : parseDuration(typed);
  if (value !== null && value >= least) return value;
  throw new UsageError(`${flag} ${typed} is no duration that can be used`, {
    because: `it is a number of seconds or a value such as 500ms, 10s or 2m, at least ${String(least)} ms`,
    nextSteps: ["gpuctl bench --help"],
  });
}
