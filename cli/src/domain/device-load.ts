import type { ServiceName } from "./names.js";
import { chooseStrategy, chooseUnmeasured, memoryMargin, type Strategy } from "./placement.js";
import { mib, type MiB, type Milliseconds } from "./units.js";

/** One GPU of one node (or a node's RAM), with what a deploy would do to it. */
export interface DeviceLoad {
  /** Where it is: `gpu-1, GPU-8a56…`; null on a target with one place. */
  place: string | null;
  /** Null where the device does not say. */
  free: MiB | null;
  total: MiB;
  /** Instances to be started there. The peak is the ledger's, else the declared budget; null when nobody knows. */
  candidates: readonly Candidate[];
  /** What stopping the running predecessors of those candidates gives back. */
  predecessors: readonly { service: ServiceName; peak: MiB }[];
  /** What ends before the candidates start, whatever the strategy: warm instances whose slot is needed. */
  ending: MiB;
}

export interface Candidate {
  service: ServiceName;
  peak: MiB | null;
  /** On a GPU, where nobody knows its peak: the most it can be by the size of its model; null when that is not known either. */
  atMost?: MiB | null;
}

export interface DeviceStrategy {
  place: string | null;
  services: readonly ServiceName[];
  strategy: Strategy;
}

/**
 * How candidates take over, GPU by GPU: a service that fits beside its predecessor does so, although another one on another card
 * has to stop first. A card that gets no candidate has no say.
 */
export function strategiesOf(loads: readonly DeviceLoad[], gap: Milliseconds): readonly DeviceStrategy[] {
  return loads
    .filter(({ candidates }) => candidates.length > 0)
    .map((load) => ({
      place: load.place,
      services: load.candidates.map(({ service }) => service),
      strategy: strategyOf(load, gap),
    }));
}

function strategyOf(load: DeviceLoad, gap: Milliseconds): Strategy {
  const peaks = load.candidates.map(({ peak }) => peak);
  const known = peaks.filter((peak) => peak !== null);
  const margin = memoryMargin(load.total);
  if (load.free === null || load.candidates.some(({ atMost }) => atMost !== undefined)) {
    const most = load.candidates.map(({ peak, atMost = null }) => peak ?? atMost);
    return chooseUnmeasured({
      free: load.free === null ? null : mib(load.free + load.ending),
      atMost: most.includes(null) ? null : sum(most.filter((each) => each !== null)),
      replaces: load.predecessors.length > 0,
      margin,
      gap,
    });
  }
  return chooseStrategy({
    free: mib(load.free + load.ending),
    peak: known.length < peaks.length ? null : sum(known),
    held: sum(load.predecessors.map(({ peak }) => peak)),
    margin,
    gap,
  });
}

const sum = (amounts: readonly MiB[]): MiB => mib(amounts.reduce((total, amount) => total + amount, 0));

const severity: Readonly<Record<Strategy["kind"], number>> = { overlap: 0, "stop-first": 1, refuse: 2 };

/** What the plan prints for the whole deploy: the hardest case, naming where it is. One card that refuses refuses it all, before anything is touched. */
export function hardest(strategies: readonly DeviceStrategy[]): Strategy {
  const [worst] = [...strategies].sort((a, b) => severity[b.strategy.kind] - severity[a.strategy.kind]);
  if (worst === undefined) return { kind: "overlap", freeAfterMiB: null };
  const { strategy } = worst;
  if (strategy.kind === "overlap") return tightest(strategies);
  return { ...strategy, because: at(worst.place, strategy.because) };
}

/** Where everything overlaps, the card that is left with the least. */
function tightest(strategies: readonly DeviceStrategy[]): Strategy {
  const left = strategies.map(({ strategy }) => (strategy.kind === "overlap" ? strategy.freeAfterMiB : null));
  const known = left.filter((amount) => amount !== null);
  const reasons = strategies.flatMap(({ place, strategy: { kind, because } }) =>
    kind === "overlap" && because !== undefined ? [at(place, because)] : [],
  );
  const because = reasons.length === 0 ? {} : { because: reasons.join("; ") };
  return { kind: "overlap", freeAfterMiB: known.length < left.length ? null : mib(Math.min(...known)), ...because };
}

const at = (place: string | null, text: string): string => (place === null ? text : `${place}: ${text}`);

/** Services of which the old instance has to end first, wherever it is. */
export function stopFirstOf(strategies: readonly DeviceStrategy[]): ReadonlySet<ServiceName> {
  return new Set(strategies.flatMap(({ services, strategy }) => (strategy.kind === "stop-first" ? services : [])));
}

/** Whether what was planned still holds. */
export type Recheck =
  | { kind: "holds" }
  /** Another tenant moved: the plan is not carried out, nothing was stopped, and a new plan may say otherwise. */
  | { kind: "changed"; because: string; now: Strategy };

/** Looks again right before anything is stopped or started on a node, with what is free there now. An easier way than planned is no reason to stop. */
export function recheck(planned: readonly DeviceStrategy[], fresh: readonly DeviceLoad[], gap: Milliseconds): Recheck {
  for (const now of strategiesOf(fresh, gap)) {
    const before = planned.find(({ place }) => place === now.place);
    if (before !== undefined && severity[now.strategy.kind] <= severity[before.strategy.kind]) continue;
    const was = before === undefined ? "nothing was planned" : `${before.strategy.kind} was planned`;
    const why = now.strategy.kind === "overlap" ? "" : `: ${now.strategy.because}`;
    return { kind: "changed", because: at(now.place, `${was}, and now it is ${now.strategy.kind}${why}`), now: now.strategy };
  }
  return { kind: "holds" };
}
