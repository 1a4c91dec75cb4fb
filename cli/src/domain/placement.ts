import type { Slot } from "./names.js";
import { mib, type MiB, type Milliseconds } from "./units.js";

/** How a candidate takes over a node. `gapMs` is the expected time without an instance that answers. */
export type Strategy =
  | { kind: "overlap"; freeAfterMiB: MiB | null }
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

/** Chooses whether candidates can run beside what serves now. A peak nobody has measured is no reason to go dark: it overlaps. */
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
