import { instanceOf } from "../domain/drift.js";
import { inOrder } from "../domain/fingerprint.js";
import { currentRelease } from "../domain/history.js";
import type { ReleaseId, ServiceName } from "../domain/names.js";
import { expectedTime, slowestOf, type Readiness } from "../domain/rollback.js";
import type { ReleaseRecord, ReleaseState } from "../domain/release.js";
import type { Context } from "../ports.js";
import { lookAround, readinessOf, type Facts } from "./lifecycle/observe.js";

export interface ReleaseRow {
  id: ReleaseId;
  number: number;
  state: ReleaseState;
  current: boolean;
  /** How fast a rollback to it would be; null for a release that never was good. */
  readiness: Readiness | null;
  expected: string | null;
  /** The same as a figure, milliseconds; null when it was never measured. */
  measuredMs: number | null;
  rollbackOf: ReleaseId | null;
  author: string;
  createdAt: string;
  failure: string | null;
  services: readonly { service: ServiceName; instance: string; model: string | null; code: string; device: string | null }[];
}

export interface ReleasesReport {
  environment: string;
  releases: readonly ReleaseRow[];
  damaged: readonly { file: string; because: string }[];
}

/** Every kept release, newest first, and how fast each could be back. */
export async function releases(ctx: Context): Promise<ReleasesReport> {
  const { records, damaged } = await ctx.releases.list();
  const facts = await lookAround(ctx, records);
  const rows = await Promise.all(records.map((record) => rowOf(ctx, record, records, facts)));
  return { environment: ctx.config.environment, releases: rows.reverse(), damaged };
}

async function rowOf(ctx: Context, record: ReleaseRecord, records: readonly ReleaseRecord[], facts: Facts): Promise<ReleaseRow> {
  const current = currentRelease(records);
  const { id, number, state, rollbackOf, author, createdAt, failure } = record;
  const readiness = state === "good" ? await slowestReadiness(ctx, record, current, facts) : null;
  return {
    id,
    number,
    state,
    current: id === current?.id,
    readiness,
    ...(readiness === null ? { expected: null, measuredMs: null } : expectedTime(readiness, record, records)),
    rollbackOf,
    author,
    createdAt,
    failure,
    services: inOrder(record.services).map(([service, release]) => ({
      service,
      instance: instanceOf(release),
      model: release.spec.model?.id ?? null,
      code: release.spec.code.version,
      device: release.proof?.device ?? null,
    })),
  };
}

async function slowestReadiness(
  ctx: Context,
  record: ReleaseRecord,
  current: ReleaseRecord | null,
  facts: Facts,
): Promise<Readiness> {
  const each = inOrder(record.services).map(([service, release]) => readinessOf(ctx, release, current?.services[service], facts));
  return slowestOf(await Promise.all(each));
}
