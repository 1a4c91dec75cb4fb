import { isWarm, type PlannedRelease } from "./plan.js";
import type { Observed } from "./drift.js";
import { byNumber } from "./history.js";
import { inOrder, type PerService } from "./fingerprint.js";
import type { ServiceName } from "./names.js";
import type { ReleaseRecord, ServiceRelease, ServiceSpec } from "./release.js";
import { indexSpace, vectorSpaceOf } from "./spec.js";

/**
 * How fast a release can be back. `current`: it serves. `warm`: its instances still run. `cached`: its files are here.
 * `cold`: something must be fetched first.
 */
export type Readiness = "current" | "warm" | "cached" | "cold";

const slowest: readonly Readiness[] = ["current", "warm", "cached", "cold"];

/** Whether one service of an earlier release still runs; null when its files decide how fast it can be back. */
export function runsStill(
  earlier: ServiceRelease,
  current: ServiceRelease | undefined,
  observed: Observed,
): "current" | "warm" | null {
  if (current?.fingerprint === earlier.fingerprint) return "current";
  return isWarm(earlier, observed) ? "warm" : null;
}

/** A release is back when its slowest service is. */
export function slowestOf(readiness: Iterable<Readiness>): Readiness {
  return slowest[Math.max(0, ...[...readiness].map((one) => slowest.indexOf(one)))] ?? "cold";
}

/** How long a rollback is going to take until the switch, by what was measured on this environment. */
export interface ExpectedTime {
  /** Milliseconds; null when a rollback of this kind was never measured here, and for a release that serves. */
  measuredMs: number | null;
  /** For people, with the release that took so long. */
  expected: string;
}

/**
 * About how long a rollback to a release takes; shown, never relied on. Its own start is the best measure of starting it again from what
 * is cached; else the newest release that came into service in the same way is taken.
 */
export function expectedTime(readiness: Readiness, to: ReleaseRecord, records: readonly ReleaseRecord[]): ExpectedTime {
  if (readiness === "current") return { measuredMs: null, expected: "serves now" };
  const measured = byNumber(records).filter(({ state, took }) => state === "good" && took?.path === readiness);
  const own = readiness === "cached" ? measured.find(({ id }) => id === to.id) : undefined;
  const record = own ?? measured.at(-1);
  if (record?.took === undefined) return { measuredMs: null, expected: "not measured yet" };
  const { movedMs } = record.took;
  const text = movedMs < 1000 ? `${Math.round(movedMs)} ms` : `${Number((movedMs / 1000).toFixed(1))} s`;
  return { measuredMs: movedMs, expected: `about ${text}, as ${record.id} took` };
}

/** How fast what runs now could be back once a release serves, and for how long; null when nothing runs now. */
export function wayBack(
  current: ReleaseRecord | null,
  { operations }: PlannedRelease,
): { readiness: Readiness; warmForMs: number } | null {
  if (current === null) return null;
  const replaced = operations.filter((operation) => operation.kind === "close" || operation.kind === "stop-first");
  const warm = replaced.map((operation) => (operation.kind === "close" ? operation.keepWarmMs : 0));
  const warmForMs = warm.length === 0 ? 0 : Math.min(...warm);
  return { readiness: warmForMs > 0 ? "warm" : "cached", warmForMs };
}

/** What the environment runs after a rollback: the whole earlier release, or the current one with one earlier service. */
export function rollbackSpecs(
  target: ReleaseRecord,
  current: ReleaseRecord | null,
  only: ServiceName | null,
): PerService<ServiceSpec> {
  const specs: Partial<Record<ServiceName, ServiceSpec>> = {};
  const base = only === null ? target.services : { ...current?.services, [only]: target.services[only] };
  for (const [service, release] of inOrder(base)) specs[service] = release.spec;
  return specs;
}

/** Why embedder and index would not fit together, or null. Different vector spaces give answers that look right and are not. */
export function incompatible(specs: PerService<ServiceSpec>): string | null {
  const embedder = vectorSpaceOf(specs.embedder?.model ?? null);
  const index = specs.index === undefined ? null : indexSpace(specs.index);
  if (embedder === null || index === null || embedder.generation === index.generation) return null;
  return `the embedder would make vectors of ${embedder.generation} and the index would search those of ${index.generation}`;
}
