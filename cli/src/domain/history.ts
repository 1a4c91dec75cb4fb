import type { ReleaseId, ServiceName } from "./names.js";
import { UsageError } from "./errors.js";
import type { ReleaseRecord } from "./release.js";
import { inOrder } from "./fingerprint.js";

/** Newest last. The store promises it; a planner that depends on it does not trust it. */
export function byNumber(records: readonly ReleaseRecord[]): readonly ReleaseRecord[] {
  return [...records].sort((a, b) => a.number - b.number);
}

/** The release that should be serving: the newest one that was marked good. */
export function currentRelease(records: readonly ReleaseRecord[]): ReleaseRecord | null {
  return byNumber(records).findLast((record) => record.state === "good") ?? null;
}

export function nextNumber(records: readonly ReleaseRecord[]): number {
  return Math.max(0, ...records.map((record) => record.number)) + 1;
}

/** Whether two releases run the same thing. */
export function sameServices(a: ReleaseRecord, b: ReleaseRecord): boolean {
  const prints = (record: ReleaseRecord): string =>
    inOrder(record.services)
      .map(([service, release]) => `${service}=${release.fingerprint}`)
      .join(" ");
  return prints(a) === prints(b);
}

/** Finds a release by `r12`, `12` or any prefix of its id that ends a number (`r1` is never `r12`). */
export function findRelease(records: readonly ReleaseRecord[], wanted: string): ReleaseRecord {
  const number = /^r?(\d+)$/.exec(wanted)?.[1];
  const matches = records.filter((record) =>
    number === undefined ? /^r\d+-/.test(wanted) && record.id.startsWith(wanted) : record.number === Number(number),
  );
  const [found] = matches;
  if (found !== undefined && matches.length === 1) return found;
  throw new UsageError(`there is no release ${wanted}`, {
    because:
      records.length === 0
        ? "nothing was deployed yet"
        : `the releases are ${byNumber(records)
            .map((record) => record.id)
            .join(", ")}`,
    nextSteps: ["gpuctl releases"],
  });
}

/**
 * The release `rollback` returns to when none is named: the newest good one before the current that runs something else
 * (for one service: something else for that service).
 */
export function previousGood(
  records: readonly ReleaseRecord[],
  current: ReleaseRecord,
  service: ServiceName | null,
): ReleaseRecord | null {
  const differs = (record: ReleaseRecord): boolean =>
    service === null
      ? !sameServices(record, current)
      : record.services[service] !== undefined && record.services[service].fingerprint !== current.services[service]?.fingerprint;
  return (
    byNumber(records).findLast((record) => record.state === "good" && record.number < current.number && differs(record)) ?? null
  );
}

/** The good releases, newest first, that retention keeps. Failed ones never count. */
export function keptGood(records: readonly ReleaseRecord[], retain: number): readonly ReleaseRecord[] {
  return byNumber(records)
    .filter((record) => record.state === "good")
    .reverse()
    .slice(0, Math.max(1, retain));
}

/** Records to remove: good ones beyond `retain`, and failed ones older than everything kept (they explain nothing any more). */
export function beyondRetention(records: readonly ReleaseRecord[], retain: number): readonly ReleaseId[] {
  const kept = keptGood(records, retain);
  const oldest = kept.at(-1);
  if (oldest === undefined) return [];
  const keep = new Set(kept.map((record) => record.id));
  return byNumber(records)
    .filter((record) =>
      record.state === "good" ? !keep.has(record.id) : record.state === "failed" && record.number < oldest.number,
    )
    .map((record) => record.id);
}
