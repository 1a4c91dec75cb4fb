import type { Slot } from "./names.js";
import { mib, type MiB, type Milliseconds } from "./units.js";

/** How a candidate takes over a node. `gapMs` is the expected time without an instance that answers. */
export type Strategy =
  /** `because` where it was not simply measured. */
  | { kind: "overlap"; freeAfterMiB: MiB | null; because?: string }
  | { kind: "stop-first"; gapMs: Milliseconds; because: string }
  | { kind: "refuse"; because: string; nextStep: string };

export interface MemoryQuestion {
  /** Free now, MiB. */
  free: MiB;
  /** What the candidates need at their worst batch: as measured by the last good release, else the declared budget; null when nobody knows. */
  peak: MiB | null;
  /** What stopping the predecessors would give back. */
  held: MiB;
  /** Never used up: other tenants move. */
  margin: MiB;
  /** How long loading and proving takes at most; the gap when nothing overlaps. */
  gap: Milliseconds;
}

/** Memory left free on purpose: 5 % of the device, at least 256 MiB. */
export function memoryMargin(total: MiB): MiB {
  return mib(Math.max(256, Math.round(total * 0.05)));
}

/** What a model that nobody has measured surely does not exceed on a GPU, as a multiple of its files: a GPU computes in half their precision. */
const timesItsFiles = 4;

/** CUDA's own context, the libraries' workspaces and the largest batch of a small model, MiB. */
const leastOnGpu = 2048;

/** The most that a model is expected to take on a GPU, by the size of its files. */
export const mostOnGpu = (files: MiB): MiB => mib(Math.max(timesItsFiles * files, leastOnGpu));

export interface UnmeasuredQuestion {
  /** Free now, MiB; null where the device does not say. */
  free: MiB | null;
  /** What all candidates need at the very most; null when nobody knows. */
  atMost: MiB | null;
  /** Whether an old one holds memory of the device. */
  replaces: boolean;
  margin: MiB;
  gap: Milliseconds;
}

/**
 * Chooses for candidates on a GPU that nobody has measured, or on one that does not say what is free: they run beside what serves only
 * where they surely fit, for what runs out of memory there may be the one that serves.
 */
export function chooseUnmeasured({ free, atMost, replaces, margin, gap }: UnmeasuredQuestion): Strategy {
  const unknown =
    free === null ? "the device does not say what is free" : "nobody has measured what the candidate needs on a GPU";
  if (free !== null && atMost !== null && free - atMost > margin)
    return {
      kind: "overlap",
      freeAfterMiB: mib(free - atMost),
      because: `${unknown}; ${atMost} MiB, the most for models of its size, fit`,
    };
  if (!replaces) return { kind: "overlap", freeAfterMiB: null };
  const most = atMost === null ? "its size is not known" : `${atMost} MiB, the most for models of its size, may not fit`;
  const beside = free === null || atMost === null ? "" : ` in the ${free} MiB that are free beside a margin of ${margin} MiB`;
  return { kind: "stop-first", gapMs: gap, because: `${unknown}${free === null ? "" : `, and ${most}${beside}`}` };
}

/** Chooses whether candidates can run beside what serves now. A need for RAM that nobody has measured is no reason to go dark: it overlaps. */
export function chooseStrategy(question: MemoryQuestion): Strategy {
  const { free, peak, held, margin, gap } = question;
  if (peak === null) return { kind: "overlap", freeAfterMiB: null };
  if (free - peak > margin) return { kind: "overlap", freeAfterMiB: mib(free - peak) };
  if (held > 0 && free + held - peak > margin) {
    return {
      kind: "stop-first",
      gapMs: gap,
      because: `${free} MiB are free and the candidate needs ${peak} MiB beside a margin of ${margin} MiB, so the old one must stop first`,
    };
  }
  return {
    kind: "refuse",
    because: `the candidate needs ${peak} MiB beside a margin of ${margin} MiB; ${free} MiB are free and stopping the old one gives back ${held} MiB`,
    nextStep: "free memory on this machine, or lower the service's batch size in gpuctl.yaml, then type gpuctl plan",
  };
}

/** The slot a candidate takes: the one its predecessor does not have. */
export function freeSlot(occupied: Slot | null): Slot {
  return occupied === "a" ? "b" : "a";
}
