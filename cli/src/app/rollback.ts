import { Failed, PreflightRefused, UsageError } from "../domain/errors.js";
import { inOrder } from "../domain/fingerprint.js";
import { findRelease, previousGood } from "../domain/history.js";
import type { HostRow } from "../domain/host-table.js";
import { serviceNames, type ReleaseId, type ServiceName } from "../domain/names.js";
import { incompatible, rollbackSpecs, slowestOf, type Readiness } from "../domain/rollback.js";
import type { PlannedRelease } from "../domain/plan.js";
import type { GateResult, ReleaseRecord } from "../domain/release.js";
import { ms, type Milliseconds } from "../domain/units.js";
import type { Context } from "../ports.js";
import { sayWhatServes } from "./deploy.js";
import { dryRun, type DryRunReport } from "./dry-run.js";
import { lookForCertificates } from "./lifecycle/certificates.js";
import type { SecretValues } from "./lifecycle/desired.js";
import { passBySilent } from "./lifecycle/left-out.js";
import { mend } from "./lifecycle/mend.js";
import { requireEveryNode, surveying } from "./lifecycle/nodes.js";
import { readinessOf } from "./lifecycle/observe.js";
import { rollOut } from "./lifecycle/rollout.js";
import { phase, reasonOf, step, withLease, type Session } from "./lifecycle/session.js";
import { stageEverything } from "./lifecycle/staging.js";
import { newInstances } from "./lifecycle/switch.js";
import { survey, type Decide, type Survey, type Wish } from "./lifecycle/survey.js";

export interface RollbackRequest {
  /** Only this service; the others stay as they are. */
  service: string | undefined;
  /** Release to return to; the last good one that differs when not given. */
  to: string | undefined;
  lockWait: Milliseconds;
}

/** How a rollback ended well. */
export interface RollbackResult {
  environment: string;
  /** The new release: a rollback goes forward. */
  release: ReleaseId;
  rollbackOf: ReleaseId;
  previous: ReleaseId;
  path: Readiness;
  switchMs: number;
  /** From the beginning of the rollback until traffic had moved, milliseconds. */
  movedAfterMs: number;
  heldMs: number | null;
  gates: readonly GateResult[];
  /** What serves where; empty where there is one place only. */
  hosts: readonly HostRow[];
  elapsedMs: number;
}

interface Return extends Wish {
  rollbackTo: ReleaseRecord;
}

/** A release that soaked when it was deployed and has run since needs a confirmation, not another soak. */
const warmSoak = ms(1000);

/** What `gpuctl rollback` would run on each host. */
export async function dryRunRollback(ctx: Context, { service, to }: Omit<RollbackRequest, "lockWait">): Promise<DryRunReport> {
  const only = service === undefined ? null : knownService(service);
  const decide = returnTo(to, only);
  const seen = await phase(
    ctx,
    "resolve",
    null,
    () => survey(ctx, decide),
    ({ wish }) => `back to ${wish.rollbackTo.id}`,
  );
  await passBy(ctx, seen);
  await wayTo(ctx, seen, only);
  return dryRun(ctx, seen, await secretsOf(ctx, seen.wish.rollbackTo, only), []);
}

/** Puts a previous release back into service: code, Python environment, model, settings, options and secrets. */
export async function rollback(ctx: Context, request: RollbackRequest): Promise<RollbackResult> {
  const began = ctx.clock.monotonic();
  const only = request.service === undefined ? null : knownService(request.service);
  const decide = returnTo(request.to, only);
  const shown = await phase(
    ctx,
    "resolve",
    null,
    () => surveying(ctx, "rollback", () => survey(ctx, decide)),
    ({ wish }) => `back to ${wish.rollbackTo.id}`,
  );
  requireEveryNode(ctx, shown.facts.observation, "rollback");
  await passBy(ctx, shown);
  try {
    const way = await wayTo(ctx, shown, only);
    if (shown.plan.release !== null && way.path !== "warm") await fetchMissing(ctx, shown, shown.plan.release, way);
    const prepared = ctx.clock.monotonic() - began;
    const { movedAt, ...result } = await withLease(ctx, "rollback", request.lockWait, (session) =>
      rollBackUnderLease(session, decide, only, { path: way.path, began: ctx.clock.monotonic() - prepared }),
    );
    await lookForCertificates(ctx);
    const since = (moment: number): number => Math.round(moment - began);
    return { ...result, movedAfterMs: since(movedAt), elapsedMs: since(ctx.clock.monotonic()) };
  } catch (thrown) {
    throw sayWhatServes(thrown, shown.current?.id ?? null);
  }
}

/** Of a rollback on some hosts only the silent others are left behind, as of a deploy. */
async function passBy(ctx: Context, { wish, plan }: Survey & { wish: Return }): Promise<void> {
  if (plan.release === null) return;
  await passBySilent(ctx, {
    command: "rollback",
    asks: `${wish.rollbackTo.id} is not what is current on all hosts`,
    services: newInstances(plan.release),
    nextSteps: ["gpuctl status"],
  });
}

async function rollBackUnderLease(
  session: Session,
  decide: Decide<Return>,
  only: ServiceName | null,
  shown: { path: Readiness; began: number },
): Promise<Omit<RollbackResult, "elapsedMs" | "movedAfterMs"> & { movedAt: number }> {
  const { ctx } = session;
  const { survey: now } = await mend(session, decide);
  const { current, wish } = now;
  const { release } = now.plan;
  if (release === null || current === null) throw nothingDiffers(wish.rollbackTo);
  const way = await wayTo(ctx, now, only);
  if (way.missing.length > 0) throw stillCold(wish.rollbackTo, way.missing, []);
  // What was fetched meanwhile was cold all the same.
  const path = slowestOf([shown.path, way.path]);
  step(ctx, `returning to ${wish.rollbackTo.id} on the ${path} path`);
  const soakFor = path === "warm" ? ms(Math.min(warmSoak, ctx.config.timings.soak)) : ctx.config.timings.soak;
  const secrets = await secretsOf(ctx, wish.rollbackTo, only);
  const { record, figures, movedAt, hosts } = await rollOut(session, {
    release,
    current,
    secrets,
    soakFor,
    action: "rollback",
    way: { path: path === "current" ? "warm" : path, began: shown.began },
  });
  return {
    environment: ctx.config.environment,
    release: record.id,
    rollbackOf: wish.rollbackTo.id,
    previous: current.id,
    path,
    ...figures,
    movedAt,
    hosts,
    gates: record.gates,
  };
}

/** Decides where to return to, from the records as they are at that moment. */
function returnTo(to: string | undefined, only: ServiceName | null): Decide<Return> {
  return (current, records) => {
    if (current === null)
      throw new UsageError("there is nothing to roll back", {
        because: "no release is in service",
        nextSteps: ["gpuctl deploy"],
      });
    const target = to === undefined ? previousGood(records, current, only) : findRelease(records, to);
    if (target === null) throw nowhereToGo(current, only);
    if (target.state !== "good")
      throw new UsageError(`${target.id} was never good`, {
        because: `it is recorded as ${target.state}: ${target.failure ?? "no reason"}`,
        nextSteps: ["gpuctl releases"],
      });
    if (only !== null && target.services[only] === undefined)
      throw new UsageError(`${target.id} has no ${only}`, { nextSteps: ["gpuctl releases"] });
    const specs = rollbackSpecs(target, current, only);
    const clash = incompatible(specs);
    if (clash !== null)
      throw new PreflightRefused(`${only ?? target.id} cannot return to ${target.id} alone`, {
        because: clash,
        nextSteps: [`gpuctl rollback --to ${target.id}`],
      });
    return { specs, rollbackTo: target };
  };
}

function nowhereToGo(current: ReleaseRecord, only: ServiceName | null): UsageError {
  return new UsageError(`there is no earlier release to return ${only ?? "to"}${only === null ? "" : " to"}`, {
    because: `no good release before ${current.id} runs anything else${only === null ? "" : ` as ${only}`}`,
    nextSteps: ["gpuctl releases"],
  });
}

function nothingDiffers(target: ReleaseRecord): UsageError {
  return new UsageError(`${target.id} is what runs already`, {
    because: "every service of it has the same fingerprint as now",
    nextSteps: ["gpuctl releases"],
  });
}

/** How fast a rollback is, and what has to be fetched for it first. */
interface Way {
  path: Readiness;
  missing: readonly string[];
}

async function wayTo(ctx: Context, seen: Survey & { wish: Return }, only: ServiceName | null): Promise<Way> {
  const target = seen.wish.rollbackTo;
  if (seen.plan.release === null) throw nothingDiffers(target);
  const readiness: Readiness[] = [];
  const missing: string[] = [];
  for (const [service, earlier] of inOrder(target.services)) {
    if (only !== null && service !== only) continue;
    const one = await readinessOf(ctx, earlier, seen.current?.services[service], seen.facts);
    readiness.push(one);
    if (one !== "cold") continue;
    const { model, code } = earlier.spec;
    const here = model === null || (await ctx.models.find(model)) !== null;
    missing.push(here ? `${service}: code ${code.version}` : `${service}: model ${model.id}@${model.revision}`);
  }
  return { path: slowestOf(readiness), missing };
}

/** Phases 2 to 5. Nothing has been touched when something cannot be had. */
async function fetchMissing(ctx: Context, { wish }: { wish: Return }, release: PlannedRelease, { missing }: Way): Promise<void> {
  if (missing.length > 0) step(ctx, `${wish.rollbackTo.id} is cold, so what is missing is fetched first: ${missing.join("; ")}`);
  try {
    await stageEverything(ctx, release);
  } catch (thrown) {
    if (missing.length === 0 || !(thrown instanceof Failed || thrown instanceof PreflightRefused)) throw thrown;
    throw stillCold(wish.rollbackTo, [...missing, reasonOf(thrown)], thrown.nextSteps, thrown);
  }
}

function stillCold(
  target: ReleaseRecord,
  because: readonly string[],
  nextSteps: readonly string[],
  cause?: unknown,
): PreflightRefused {
  return new PreflightRefused(`${target.id} is cold: files of it are missing and could not be fetched`, {
    because: because.join("; "),
    nextSteps: [...new Set([...nextSteps, "gpuctl releases"])],
    cause,
  });
}

/** The secrets a release had when it was good, from its own file: a rotated secret comes back too. */
async function secretsOf(
  ctx: Context,
  target: ReleaseRecord,
  only: ServiceName | null,
): Promise<Readonly<Partial<Record<ServiceName, SecretValues>>>> {
  const kept = await ctx.releases.secrets(target.id);
  const result: Partial<Record<ServiceName, SecretValues>> = {};
  for (const [service] of inOrder(target.services)) if (only === null || service === only) result[service] = kept[service] ?? {};
  return result;
}

function knownService(name: string): ServiceName {
  const found = serviceNames.find((service) => service === name);
  if (found !== undefined) return found;
  throw new UsageError(`there is no service ${name}`, {
    because: `services are ${serviceNames.join(", ")}`,
    nextSteps: ["gpuctl status"],
  });
}
