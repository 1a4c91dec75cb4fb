import { inOrder } from "../../domain/fingerprint.js";
import type { PlannedRelease } from "../../domain/plan.js";
import { latestSummaries } from "../../domain/preflight/node-summary.js";
import type { ReleaseRecord, ReleaseState } from "../../domain/release.js";
import type { Context } from "../../ports.js";
import type { SecretValues } from "./desired.js";
import { leftOut } from "./left-out.js";
import { withMeasurements, type Findings } from "./prepare.js";
import type { Rollout } from "./rollout.js";
import { operationsOf } from "./switch.js";
import type { Session } from "./session.js";

/** The record as it is before anything starts. */
export function candidateRecord(ctx: Context, { release, current, resumed }: Rollout): ReleaseRecord {
  const without = leftOut(ctx);
  const passedBy = without.length > 0 && { leftOut: without };
  if (resumed !== undefined) return { ...resumed.record, ...passedBy, state: "candidate", failure: null, finishedAt: null };
  const stopped = operationsOf(release, "stop-first").map(({ service }) => service);
  const nodes = latestSummaries(ctx.nodesSeen?.() ?? [], current?.nodes ?? []);
  return {
    schemaVersion: 1,
    id: release.id,
    number: release.number,
    project: ctx.config.project,
    environment: ctx.config.environment,
    target: ctx.config.target,
    services: release.services,
    parent: release.parent,
    rollbackOf: release.rollbackOf,
    author: ctx.author,
    createdAt: ctx.clock.now().toISOString(),
    gpuctl: ctx.gpuctlVersion,
    state: "candidate",
    gates: [],
    ...(nodes.length > 0 && { nodes }),
    ...passedBy,
    ...(stopped.length > 0 && { stopFirst: stopped }),
    failure: null,
    finishedAt: null,
  };
}

/** The record exists before anything starts: whoever finds the instances finds out what they are. */
export async function writeRecord(session: Session, rollout: Rollout, record: ReleaseRecord): Promise<void> {
  const { ctx, target } = session;
  await target.check();
  if (rollout.resumed !== undefined) {
    await ctx.releases.update(record);
    return ctx.audit.append({
      action: rollout.action,
      release: record.id,
      detail: `goes on where it was cut short${withoutHosts(record)}`,
    });
  }
  const kept = rollout.current === null ? {} : await ctx.releases.secrets(rollout.current.id);
  const secrets: Record<string, SecretValues> = {};
  for (const [service] of inOrder(record.services)) secrets[service] = rollout.secrets[service] ?? kept[service] ?? {};
  await ctx.releases.create(record, secrets);
  await ctx.audit.append({
    action: rollout.action,
    release: record.id,
    detail: describeChanges(rollout.release) + withoutHosts(record),
  });
}

const withoutHosts = ({ leftOut: without = [] }: ReleaseRecord): string =>
  without.length === 0 ? "" : `, without ${without.join(" and ")}`;

function describeChanges(release: PlannedRelease): string {
  const changes = release.changes.map(({ service, because }) => `${service} (${because.join("; ")})`).join(", ");
  return release.rollbackOf === null ? changes : `back to ${release.rollbackOf}: ${changes}`;
}

/** Writes down how far a release has come, with all that was measured so far. */
export async function complete(
  session: Session,
  record: ReleaseRecord,
  findings: Findings,
  state: ReleaseState,
): Promise<ReleaseRecord> {
  const { ctx, target } = session;
  await target.check();
  const finishedAt = state === "good" ? ctx.clock.now().toISOString() : null;
  const done: ReleaseRecord = {
    ...record,
    state,
    finishedAt,
    gates: [...findings.gates],
    services: withMeasurements(record.services, findings),
  };
  await ctx.releases.update(done);
  return done;
}
