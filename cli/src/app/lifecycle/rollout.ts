import { PreflightRefused } from "../../domain/errors.js";
import { recheck, strategiesOf } from "../../domain/device-load.js";
import type { PerService } from "../../domain/fingerprint.js";
import { gateResult } from "../../domain/gates.js";
import type { HostRow } from "../../domain/host-table.js";
import type { ReleaseId } from "../../domain/names.js";
import type { PlannedRelease } from "../../domain/plan.js";
import type { Strategy } from "../../domain/placement.js";
import type { ReleaseRecord, Took } from "../../domain/release.js";
import { loadsNow } from "../../domain/strategy.js";
import { ms, type Milliseconds } from "../../domain/units.js";
import type { Context } from "../../ports.js";
import { budgets, seconds, within } from "./deadline.js";
import type { SecretValues } from "./desired.js";
import { hostRows } from "./host-rows.js";
import { pruneBeyondRetention } from "./keep.js";
import { hostByHost, whatAnswersMeanwhile, withoutOpened } from "./host-by-host.js";
import { passGates, proveDevice, troubled, verifyWarm, waitLoaded, warmUp, type Findings } from "./prepare.js";
import { observe } from "./observe.js";
import { candidateRecord, complete, writeRecord } from "./recording.js";
import { phase, reasonOf, step, type Session } from "./session.js";
import { soak } from "./soak.js";
import { renewStandbys } from "./stand-by.js";
import { buildGenerations, drain, operationsOf, switchTraffic, type SwitchFigures } from "./switch.js";
import { standsUpEverywhere } from "./turns.js";
import { undo, withoutInterruption } from "./undo.js";

/** One release on its way from candidate to good. */
export interface Rollout {
  release: PlannedRelease;
  current: ReleaseRecord | null;
  secrets: PerService<SecretValues>;
  soakFor: Milliseconds;
  /** For the audit: `deploy`, `rollback`. */
  action: string;
  /** How it comes into service, and since when that counts, by the monotonic clock. */
  way: { path: Took["path"]; began: number };
  /** A release whose deploy was cut short and goes on, and the nodes that it answers on already. */
  resumed?: { record: ReleaseRecord; answersOn: readonly string[] };
}

export interface RolloutResult {
  record: ReleaseRecord;
  figures: SwitchFigures;
  /** When traffic had moved, by the monotonic clock. */
  movedAt: number;
  /** What serves where, on targets of nodes. */
  hosts: readonly HostRow[];
}

/** Phases 7 to 17: brings a release into service, or leaves the old one serving and says why. */
export async function rollOut(session: Session, rollout: Rollout): Promise<RolloutResult> {
  const { ctx } = session;
  await phase(
    ctx,
    "strategy",
    null,
    () => acceptStrategy(rollout),
    () => strategyText(ctx, rollout.release),
  );
  let record = candidateRecord(ctx, rollout);
  const moved = new Set(rollout.resumed?.answersOn);
  await phase(
    ctx,
    "start",
    null,
    () => writeRecord(session, rollout, record),
    () => `record of ${record.id} written`,
  );
  const findings: Findings = { gates: [], measured: {} };
  try {
    const quiet = withoutInterruption(session);
    const figures = await bringIntoService(session, rollout, findings, moved);
    const movedAt = ctx.clock.monotonic();
    record = { ...record, took: { path: rollout.way.path, movedMs: Math.round(movedAt - rollout.way.began) } };
    record = await complete(quiet, record, findings, "switched");
    await phase(
      quiet.ctx,
      "drain",
      null,
      () => drain(quiet, hostByHost(ctx, rollout.release) === null ? rollout.release : withoutOpened(rollout.release)),
      (detail) => detail,
    );
    await phase(
      ctx,
      "soak",
      null,
      () => soak(session, rollout.release, rollout.soakFor, findings),
      (detail) => detail,
    );
    record = await phase(
      quiet.ctx,
      "mark-good",
      null,
      () => complete(quiet, record, findings, "good"),
      (done) => done.id,
    );
    await afterwards(quiet, rollout, figures, () => renewStandbys(session, record));
    return { record, figures, movedAt, hosts: await hostRows(quiet.ctx, rollout.current, record, moved) };
  } catch (failure) {
    throw await undo(session, { ...rollout, record, findings, moved }, failure);
  }
}

/** Phases 8 to 13, on all hosts, or on a few after the other. */
async function bringIntoService(
  session: Session,
  rollout: Rollout,
  findings: Findings,
  moved: Set<string>,
): Promise<SwitchFigures> {
  const parts = hostByHost(session.ctx, rollout.release);
  const move = (within: Session, { release }: Rollout): Promise<SwitchFigures> =>
    phase(session.ctx, "switch", null, () => switchTraffic(withoutInterruption(within), release, moved), describeSwitch);
  if (parts === null) {
    await prepareAll(session, rollout, findings);
    return move(session, rollout);
  }
  const sum = { switchMs: 0, heldMs: null as number | null };
  for (const { nodes, ctx, release } of parts) {
    step(ctx, `${nodes.join(" and ")}: the other hosts answer meanwhile`);
    const there = { ...session, ctx, target: session.target.at(ctx.driver) };
    await prepareAll(there, { ...rollout, release }, findings);
    const { switchMs, heldMs } = await move(there, { ...rollout, release });
    sum.switchMs += switchMs;
    sum.heldMs ??= heldMs;
    await phase(
      session.ctx,
      "drain",
      null,
      () => drain(withoutInterruption(there), release),
      (detail) => detail,
    );
    for (const { service, id } of operationsOf(release, "open")) await standsUpEverywhere(there, service, id);
  }
  return sum;
}

/** Phases 8 to 12: everything that can be known about the candidates without giving them traffic. */
async function prepareAll(session: Session, rollout: Rollout, findings: Findings): Promise<void> {
  const { ctx, target } = session;
  const { release, current } = rollout;
  const started = operationsOf(release, "start");
  // It runs by now; an older gpuctl's keeper is replaced here, while nothing depends on it. What is warm needs neither that nor room.
  if (started.length > 0) await target.ensureManager();
  for (const { id } of operationsOf(release, "free-slot")) await target.stop(id, null);
  if (started.length > 0) await lookAgain(ctx, release);
  await stopFirst(session, release);
  for (const { service, instance } of started) {
    const start = (): Promise<void> => target.start(instance, rollout.secrets[service] ?? {});
    await phase(
      ctx,
      "start",
      service,
      () => troubled(session, instance, "start", start),
      () => instance.id,
    );
  }
  const instances = started.map(({ instance }) => instance);
  if (instances.length > 0) {
    const loaded = await phase(
      ctx,
      "load",
      null,
      () => waitLoaded(session, instances),
      (verdicts) => verdicts.map(({ detail }) => detail).join("; "),
    );
    for (const [i, verdict] of loaded.entries())
      findings.gates.push(gateResult(instances[i]?.service ?? "embedder", "load", verdict));
  }
  for (const instance of instances) await warmUp(session, instance, findings);
  for (const instance of instances) await proveDevice(session, instance, findings);
  for (const instance of instances) {
    const predecessorRuns = operationsOf(release, "close").some((operation) => operation.service === instance.service);
    await passGates(session, instance, predecessorRuns, findings);
  }
  for (const { instance, service } of operationsOf(release, "reuse"))
    await verifyWarm(session, instance, release.services[service]?.proof ?? current?.services[service]?.proof ?? null, findings);
  if (operationsOf(release, "build-generation").length > 0)
    await phase(
      ctx,
      "gates",
      "index",
      () => buildGenerations(session, release),
      (said) => said,
    );
}

/** Other tenants of a device may have moved since the plan was made. Nothing has been stopped or started yet. */
async function lookAgain(ctx: Context, release: PlannedRelease): Promise<void> {
  const gap = ctx.config.timings.load;
  const memory = await within(ctx.clock, ms(budgets.preflight), "asking for free memory", () => ctx.driver.memory());
  const now = recheck(strategiesOf(release.loads, gap), loadsNow(release.loads, memory), gap);
  if (now.kind === "holds") return;
  throw new PreflightRefused("the memory that is free has changed since the plan was made", {
    because: now.because,
    nextSteps: ["gpuctl plan", "gpuctl deploy"],
  });
}

/**
 * Both do not fit: the old ones stop now. `undo` starts them again should the candidates fail; should this process be lost,
 * the target does, at once when it can see that, else when every budget up to the switch is used up.
 */
async function stopFirst(session: Session, release: PlannedRelease): Promise<void> {
  const stops = operationsOf(release, "stop-first");
  const { instances } = stops.length === 0 ? { instances: [] } : await observe(session.ctx);
  // A deploy that is continued has them stopped on some hosts already.
  const runs = (id: string): boolean => instances.some((seen) => seen.id === id && seen.process.state === "running");
  for (const { id } of stops) if (runs(id)) await session.target.suspend(id, suspendTimes(session.ctx, release));
}

/** How long an instance that makes room is drained, and when the target brings it back at the latest. */
export function suspendTimes(
  { config, driver }: Context,
  release: PlannedRelease,
): { drain: Milliseconds; restoreAfter: Milliseconds } {
  const { drain, load, warmUp } = config.timings;
  // Hosts load at the same time; what follows is done on one after the other.
  const places = operationsOf(release, "start").map(({ service }) => driver.nodesOf?.(service).length ?? 1);
  const candidates = places.reduce((sum, count) => sum + count, 0);
  return { drain, restoreAfter: ms(load + candidates * (budgets.start + warmUp + budgets.proof + 2 * budgets.gates)) };
}

function acceptStrategy(rollout: Rollout): Promise<Strategy> {
  const { strategy } = rollout.release;
  if (strategy.kind !== "refuse") return Promise.resolve(strategy);
  return Promise.reject(
    new PreflightRefused(`${rollout.release.id} does not fit on this machine`, {
      because: strategy.because,
      nextSteps: [strategy.nextStep],
    }),
  );
}

/** One line for the plan and for the strategy phase. */
export function strategyText(ctx: Context, release: PlannedRelease): string {
  const meanwhile = whatAnswersMeanwhile(ctx, release);
  return `${describeStrategy(release.strategy)}${meanwhile === null ? "" : `; ${meanwhile}`}`;
}

function describeStrategy(strategy: Strategy): string {
  switch (strategy.kind) {
    case "overlap":
      if (strategy.because !== undefined) return `overlap (${strategy.because}), expected gap 0 s`;
      return strategy.freeAfterMiB === null
        ? "overlap (memory need not measured yet), expected gap 0 s"
        : `overlap (${strategy.freeAfterMiB} MiB stay free), expected gap 0 s`;
    case "stop-first":
      return `stop-first (${strategy.because}), expected gap up to ${seconds(strategy.gapMs)}`;
    case "refuse":
      return `refused (${strategy.because})`;
  }
}

function describeSwitch({ switchMs, heldMs }: SwitchFigures): string {
  return `traffic moved in ${seconds(switchMs)}${heldMs === null ? "" : `, index writes held for ${seconds(heldMs)}`}`;
}

/** The release is good now; nothing from here on may take it back. What goes wrong is said, and mended by the next deploy. */
async function afterwards(
  session: Session,
  rollout: Rollout,
  figures: SwitchFigures,
  standbys: () => Promise<void>,
): Promise<void> {
  const { ctx, target } = session;
  const tell = (what: string) => (thrown: unknown) => {
    ctx.progress.emit({ kind: "warning", text: `${what}: ${reasonOf(thrown)}; the next deploy tries again` });
  };
  const id: ReleaseId = rollout.release.id;
  for (const { id: predecessor, keepWarmMs } of operationsOf(rollout.release, "close"))
    await target
      .stop(predecessor, keepWarmMs > 0 ? ms(keepWarmMs) : null)
      .catch(tell(`${predecessor} was not told when to stop`));
  await ctx.audit
    .append({ action: "good", release: id, detail: describeSwitch(figures) })
    .catch(tell("the audit was not written"));
  // It never competes with a candidate for memory, and Ctrl-C ends the wait for it.
  await standbys().catch(tell("what stands behind the services was not looked at"));
  const pruned = phase(
    ctx,
    "prune",
    null,
    () => pruneBeyondRetention(session),
    (lines) => (lines.length === 0 ? "nothing to remove" : lines.join("; ")),
  );
  await pruned.catch(tell("old releases were not pruned"));
}
