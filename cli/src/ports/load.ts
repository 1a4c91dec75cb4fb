/** Load on a service, and the machine that makes it. */
import type { LoadMode, Window } from "../domain/schedule.js";
import type { MiB, Milliseconds } from "../domain/units.js";

/** One request of a load, ready to be sent. */
export interface LoadRequest {
  path: string;
  /** JSON. */
  body: string;
  /** Texts, documents or vectors in it. */
  items: number;
}

export interface LoadPlan {
  /** For example `http://127.0.0.1:8001`. */
  base: string;
  headers: Readonly<Record<string, string>>;
  mode: LoadMode;
  window: Window;
  seed: number;
  /** From the moment a request is due, not from when it was sent. */
  timeout: Milliseconds;
  /** Connections at most; requests beyond them wait in the client, which counts as response time but not as service time. */
  connections: number;
  /** Unanswered requests at most; those beyond are dropped and counted. */
  maxUnanswered: number;
  /** Answers kept for the checks: a seeded sample of this size from the measured window. */
  keep: number;
  /** The request of an ordinal; equal ordinals give equal requests. */
  request(ordinal: number): LoadRequest;
  /** Tokens the service says it worked on, from the headers or the last bytes of an answer; null when it does not say. */
  tokens(headers: Readonly<Record<string, string | string[] | undefined>>, tail: string): number | null;
}

/** Raw samples of the measured window, one column a figure; times in milliseconds since the load's start. */
export interface LoadSamples {
  /** Length of the window in the end. */
  measureMs: number;
  warmUpMs: number;
  /** When each request was due. */
  due: Float64Array;
  /** When the generator sent it off: later than due only when the generator was late. */
  dispatched: Float64Array;
  /** When its first byte went out on a connection; NaN when it never did. */
  sent: Float64Array;
  /** When its last byte arrived; NaN when it never did. */
  done: Float64Array;
  /** Index into `outcomes`; 0 is `ok`. */
  outcome: Uint16Array;
  /** `ok`, `timeout`, `dropped`, else what went wrong (`http 503`, `connection reset`). */
  outcomes: readonly string[];
  items: Float64Array;
  /** NaN where the service does not say. */
  tokens: Float64Array;
  bytes: Float64Array;
  warmUp: { requests: number; failed: number };
  /** Average number of unanswered requests during the window, counted live rather than from the samples. */
  meanInFlight: number;
  inFlightAtStart: number;
  inFlightAtEnd: number;
  /** Requests that ended well inside the window, whenever they were due. */
  completedInWindow: { requests: number; items: number; tokens: number; bytes: number };
  /** Value of `x-gpuctl-device` -> answers; `unstated` without it. */
  devices: Readonly<Record<string, number>>;
  /** Texts or documents of the measured answers that came out of a cache of the service, as `x-gpuctl-cache` says. */
  fromCache: number;
  /** Documents of the measured answers that were not ranked, as `x-gpuctl-ranked` says. */
  unranked: number;
  /** How late a timer of the generator fired, every few milliseconds of the window. */
  hiccups: Float64Array;
  /** Share of the window in which the generator's event loop was busy, 0 to 1. */
  loopBusy: number;
  kept: readonly { ordinal: number; body: string }[];
}

export interface LoadGenerator {
  /** Warms up and measures in one continuous run. `onTick` is called a few times a second. */
  run(
    plan: LoadPlan,
    signal: AbortSignal,
    onTick?: (progress: { elapsedMs: number; totalMs: number; answered: number }) => void,
  ): Promise<LoadSamples>;
}

/** The machine that makes the load. */
export interface LoadHost {
  cpu: string;
  cores: number;
  memoryMiB: MiB;
  node: string;
  os: string;
}
