import { seededRandom } from "./seeded-random.js";

/** How the requests of an open loop are spread: by chance, as independent users do, or evenly. */
export type Arrival = "poisson" | "constant";

/** What decides when requests are sent. */
export type LoadMode =
  /** A request is sent when its time has come, whatever the answers do: the question an SLO asks. */
  | { kind: "open"; rate: number; arrival: Arrival }
  /** Each of `concurrency` slots sends its next request when its last was answered: the question of capacity. */
  | { kind: "closed"; concurrency: number };

const arrivalStream = 1;

/**
 * Times of an open loop's requests, milliseconds from its start, ascending and endless. They are absolute: a late request
 * never pushes the ones behind it.
 */
export function* arrivals(mode: { rate: number; arrival: Arrival }, seed: number): Generator<number, never> {
  const interval = 1000 / mode.rate;
  if (mode.arrival === "constant") for (let n = 0; ; n += 1) yield n * interval;
  const random = seededRandom(seed, arrivalStream);
  for (let at = 0; ;) {
    at -= interval * Math.log(1 - random.next());
    yield at;
  }
}

/** Window of one measurement, milliseconds from the start of the load. Warm-up runs before it without a break. */
export interface Window {
  warmUpMs: number;
  measureMs: number;
  /** The window is lengthened until this many requests were measured ... */
  minRequests: number;
  /** ... but never beyond this. */
  maxMeasureMs: number;
}

/** How long an open loop has to measure so that its rate yields `minRequests`. */
export function openLoopMeasureMs(window: Window, rate: number): number {
  const needed = Math.ceil((window.minRequests * 1000) / rate);
  return Math.min(Math.max(window.measureMs, needed), Math.max(window.maxMeasureMs, window.measureMs));
}
