import type { ServiceName, TargetKind } from "../names.js";
import { ms } from "../units.js";
import type { Timings } from "./resolved.js";

export const defaultBind = "127.0.0.1";
export const defaultRetain = 3;
export const defaultPorts: Readonly<Record<ServiceName, number>> = { embedder: 8001, reranker: 8002, index: 8003 };
export const defaultErrorRate = 0.01;
export const defaultGateSeconds = 5;
export const defaultFallbackCandidates = 30;

/** A child process shows within seconds what a host behind a proxy may take a minute to show. */
export function defaultTimings(target: TargetKind): Timings {
  return {
    load: ms(15 * 60_000),
    warmUp: ms(5 * 60_000),
    drain: ms(30_000),
    soak: ms(target === "process" ? 10_000 : 60_000),
    keepWarm: ms(10 * 60_000),
  };
}
