import { instanceOf, type Observed } from "./drift.js";
import { inOrder } from "./fingerprint.js";
import { byNumber, currentRelease } from "./history.js";
import type { RolloutOperation } from "./operations.js";
import type { PlannedRelease } from "./plan.js";
import type { ReleaseRecord } from "./release.js";
import { indexSpace } from "./spec.js";
import type { Milliseconds } from "./units.js";

/** A release whose deploy was cut short, and the one that was current before it. */
export interface CutShort {
  record: ReleaseRecord;
  before: ReleaseRecord | null;
}

/**
 * The release that `deploy --continue` goes on with: the newest one, when its deploy never ended, or when it was given up and answers
 * somewhere all the same because it could not be taken back from there. Null when there is none.
 */
export function cutShort(records: readonly ReleaseRecord[], observed: Observed): CutShort | null {
  const record = byNumber(records).at(-1);
  if (record === undefined || record.state === "good") return null;
  const before = currentRelease(records);
  const shared = new Set(Object.values(before?.services ?? {}).map(instanceOf));
  const own = new Set(Object.values(record.services).map(instanceOf));
  const answers = observed.instances.some(({ id, traffic }) => own.has(id) && !shared.has(id) && traffic === "open");
  return record.state !== "failed" || answers ? { record, before } : null;
}

/** Why a release cannot be gone on with, in words; null when it can. */
export function cannotResume({ record, before }: CutShort): string | null {
  const [old, now] = [before?.services.index, record.services.index];
  if (old === undefined || now === undefined) return null;
  const same = indexSpace(old.spec)?.generation === indexSpace(now.spec)?.generation;
  return same ? null : "its index changes to the vectors of another model, which have to be built before anything else";
}

/**
 * The rest of a release's rollout, from whatever was found: everything of it is started where it does not run and proven again, opened
 * where it is not open, and what it replaces is closed. What is done already costs a look.
 */
export function resume(
  { record, before }: CutShort,
  observed: Observed,
  { keepWarmMs, loadMs }: { keepWarmMs: number; loadMs: Milliseconds },
): PlannedRelease {
  const first = new Set(record.stopFirst);
  const stops: RolloutOperation[] = [];
  const starts: RolloutOperation[] = [];
  const opens: RolloutOperation[] = [];
  const closes: RolloutOperation[] = [];
  for (const [service, placed] of inOrder(record.services)) {
    const old = before?.services[service];
    const id = instanceOf(placed);
    if (old !== undefined && instanceOf(old) === id) continue;
    const instance = { id, service, release: placed.since, slot: placed.slot, spec: placed.spec };
    starts.push({ kind: "start", service, instance, because: ["its deploy was cut short"] });
    const writer = observed.writer?.holder ?? null;
    if (service === "index" && writer !== id) starts.push({ kind: "hand-over", service, from: writer, to: id });
    opens.push({ kind: "open", service, id });
    if (old !== undefined && runs(observed, instanceOf(old)))
      if (first.has(service)) stops.push({ kind: "stop-first", service, id: instanceOf(old) });
      else closes.push({ kind: "close", service, id: instanceOf(old), keepWarmMs });
  }
  for (const [service, old] of inOrder(before?.services ?? {}))
    if (record.services[service] === undefined && runs(observed, instanceOf(old)))
      closes.push({ kind: "close", service, id: instanceOf(old), keepWarmMs: 0 });
  return {
    id: record.id,
    number: record.number,
    parent: record.parent,
    rollbackOf: record.rollbackOf,
    services: record.services,
    changes: [],
    strategy:
      stops.length === 0
        ? { kind: "overlap", freeAfterMiB: null }
        : { kind: "stop-first", gapMs: loadMs, because: "there was no room for both when its deploy began" },
    loads: [],
    operations: [...stops, ...starts, ...opens, ...closes],
  };
}

const runs = (observed: Observed, id: string): boolean =>
  observed.instances.some((instance) => instance.id === id && instance.process === "running");
