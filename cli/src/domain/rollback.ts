import { isWarm, type PlannedRelease } from "./plan.js";
import type { Observed } from "./drift.js";
import { inOrder, type PerService } from "./fingerprint.js";
import type { ServiceName, TargetKind } from "./names.js";
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

/** About how long a rollback of each kind takes until the switch; shown, never relied on. */
export function expectedTime(readiness: Readiness, target: TargetKind): string {
  switch (readiness) {
    case "current":
      return "serves now";
    case "warm":
      // On hosts every look goes over SSH, and the proxy has to hear of it (docs/measurements).
      return target === "process" ? "under 1 s" : "some seconds";
    case "cached":
      return "as long as loading and gates take";
    case "cold":
      return "after fetching what is missing";
  }
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
