import type { InstanceId } from "./names.js";
import { byNumber } from "./history.js";
import { inOrder } from "./fingerprint.js";
import type { DriftOperation } from "./operations.js";
import { instanceId, type ReleaseRecord, type ServiceRelease } from "./release.js";

/** The little of an instance that a verdict needs. */
export interface SeenInstance {
  id: InstanceId;
  running: boolean;
  open: boolean;
  /** Whether it said that it is healthy. Unknown counts as no. */
  healthy: boolean;
}

export type Settlement = Extract<DriftOperation, { kind: "settle" }>;

const idOf = (service: ServiceRelease): InstanceId => instanceId(service.spec.service, service.since, service.slot);
const instancesOf = (record: ReleaseRecord): readonly InstanceId[] =>
  inOrder(record.services).map(([, service]) => idOf(service));

/** Records that a deploy began and never finished: its process is gone, or it would hold the lease. */
export function danglingRecords(records: readonly ReleaseRecord[]): readonly ReleaseRecord[] {
  return byNumber(records).filter((record) => record.state === "candidate" || record.state === "switched");
}

/**
 * Decides what becomes of releases whose deploy was killed: whichever serves and is healthy wins.
 * A switched release with every instance healthy is finished; one that was still a candidate is given up, unless it already
 * answers everywhere and nothing of its parent runs any more. Only the newest can be finished.
 */
export function settleDangling(records: readonly ReleaseRecord[], seen: readonly SeenInstance[]): readonly Settlement[] {
  const dangling = danglingRecords(records);
  const newest = dangling.at(-1);
  return dangling.map((record) => {
    const verdict = record === newest ? judge(record, records, seen) : fail("a later deploy began after it");
    return { kind: "settle", release: record.id, ...verdict };
  });
}

type Verdict = Pick<Settlement, "verdict" | "because">;
const fail = (because: string): Verdict => ({ verdict: "fail", because });
const finish = (because: string): Verdict => ({ verdict: "finish", because });

function judge(record: ReleaseRecord, records: readonly ReleaseRecord[], seen: readonly SeenInstance[]): Verdict {
  const find = (id: InstanceId): SeenInstance | undefined => seen.find((instance) => instance.id === id);
  const own = instancesOf(record).map(find);
  const allHealthy = own.every((instance) => instance?.running === true && instance.healthy);
  if (record.state === "switched") {
    return allHealthy
      ? finish("its traffic was moved and every instance of it is healthy")
      : fail("its traffic was moved, but not every instance of it is healthy");
  }
  const parent = records.find((candidate) => candidate.id === record.parent);
  const ownIds = new Set(instancesOf(record));
  const parentRuns = parent !== undefined && instancesOf(parent).some((id) => !ownIds.has(id) && find(id)?.running === true);
  const allOpen = own.every((instance) => instance?.open === true);
  return allHealthy && allOpen && !parentRuns
    ? finish("it answers everywhere and its predecessor is gone")
    : fail("its deploy ended before traffic was moved to it");
}

/** The records as they will be once the verdicts are written. */
export function applySettlements(records: readonly ReleaseRecord[], verdicts: readonly Settlement[]): readonly ReleaseRecord[] {
  return records.map((record) => {
    const verdict = verdicts.find((candidate) => candidate.release === record.id);
    if (verdict === undefined) return record;
    return verdict.verdict === "finish" ? { ...record, state: "good" } : { ...record, state: "failed", failure: verdict.because };
  });
}
