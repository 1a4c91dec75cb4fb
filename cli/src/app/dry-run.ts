import { inOrder } from "../domain/fingerprint.js";
import type { ServiceName } from "../domain/names.js";
import { beyondRetention } from "../domain/history.js";
import type { DriftOperation } from "../domain/operations.js";
import { describeOperation } from "../domain/operations.js";
import { standbyOperations, type StandByOperation } from "../domain/standby.js";
import type { PlannedRelease } from "../domain/plan.js";
import type { PerService } from "../domain/fingerprint.js";
import type { ReleaseRecord } from "../domain/release.js";
import type { RehearsedStep } from "../domain/rehearsal.js";
import { ms } from "../domain/units.js";
import type { Context, Lease, Phase, TargetDriver } from "../ports.js";
import { configuredService, type SecretValues } from "./lifecycle/desired.js";
import { hostByHost, withoutOpened } from "./lifecycle/host-by-host.js";
import { LeasedTarget } from "./lifecycle/leased-target.js";
import { roomFirst, warmFor } from "./lifecycle/room.js";
import { strategyText, suspendTimes } from "./lifecycle/rollout.js";
import { operationsOf } from "./lifecycle/switch.js";
import type { Survey } from "./lifecycle/survey.js";
import { planReport, surveyConfigured, type PlanReport } from "./plan.js";

/** A phase begins, in the words of the lifecycle; what stands after it belongs to it. */
export interface DryPhase {
  kind: "phase";
  phase: Phase;
  text: string;
}

export interface DryRunReport extends PlanReport {
  /** Everything that would be done on each host, in order; empty on targets that know no commands. */
  steps: readonly (DryPhase | RehearsedStep)[];
}

/** What `gpuctl deploy` would run on each host. */
export async function dryRunDeploy(ctx: Context, service: string | undefined): Promise<DryRunReport> {
  const only = service === undefined ? null : configuredService(ctx.config, service);
  const seen = await surveyConfigured(ctx, only);
  return dryRun(ctx, seen, seen.wish.desired.secrets, seen.wish.desired.notes);
}

/** Nobody holds it, and nothing asks for it: what it guards is not done. */
const noLease: Lease = { token: 0, check: () => Promise.resolve(), release: () => Promise.resolve() };

/** Says what carrying out a plan would run on each host, and changes nothing. */
export async function dryRun(
  ctx: Context,
  seen: Survey,
  secrets: PerService<SecretValues>,
  notes: readonly string[],
): Promise<DryRunReport> {
  const report = planReport(ctx, seen, notes);
  const steps: (DryPhase | RehearsedStep)[] = [];
  const driver = ctx.driver.rehearse?.((step) => void steps.push(step));
  if (driver === undefined) return { ...report, steps };
  const begin = (phase: Phase, text: string): void => void steps.push({ kind: "phase", phase, text });
  const rehearsal = new DryRun({ ...ctx, driver }, driver, begin);
  const { drift, release } = seen.plan;
  if (drift.length === 0 && (release === null || release.strategy.kind === "refuse")) return { ...report, steps };
  if (release !== null) await rehearsal.stage(release);
  begin("lease", "taken on every host, in files that only this command's lease may follow");
  for (const operation of roomFirst(drift, seen)) await rehearsal.mend(operation, seen.current);
  if (release !== null && release.strategy.kind !== "refuse") await rehearsal.rollOut(release, secrets, seen);
  return { ...report, steps };
}

/** Walks through a plan as deploy and rollback do (lifecycle/rollout.ts, lifecycle/mend.ts); a test holds the two together. */
class DryRun {
  readonly #ctx: Context;
  readonly #driver: TargetDriver;
  readonly #target: LeasedTarget;
  readonly #begin: (phase: Phase, text: string) => void;

  constructor(ctx: Context, driver: TargetDriver, begin: (phase: Phase, text: string) => void) {
    this.#ctx = ctx;
    this.#driver = driver;
    this.#target = new LeasedTarget(ctx, noLease);
    this.#begin = begin;
  }

  async mend(operation: DriftOperation, current: ReleaseRecord | null): Promise<void> {
    const { drain, keepWarm } = this.#ctx.config.timings;
    this.#begin("strategy", `put right first: ${describeOperation(operation)}`);
    switch (operation.kind) {
      case "copy-records":
      case "settle":
      case "move-writer":
        return;
      case "stand-by":
        return this.#standBy(operation, {});
      case "withdraw":
        return this.#withdraw(operation);
      case "ensure-manager":
        return this.#target.ensureManager();
      case "restage":
        for (const part of ["code", "models"] as const) await this.#driver.stage(operation.spec, part, this.#ctx.signal);
        return;
      case "reopen":
        return this.#target.open(operation.id);
      case "restart":
        await this.#target.start(operation.instance, {});
        return this.#target.open(operation.instance.id);
      case "retire":
      case "discard":
        if (operation.open) await this.#target.close(operation.id, drain);
        await this.#target.stop(operation.id, operation.kind === "retire" ? warmFor(current, operation.service, keepWarm) : null);
    }
  }

  #standBy(operation: StandByOperation, secrets: PerService<SecretValues>): Promise<void> {
    this.#begin("mark-good", describeOperation(operation));
    const prove = (): Promise<void> => Promise.resolve();
    return this.#target.standBy(operation, secrets[operation.service] ?? {}, this.#ctx.config.timings.load, prove);
  }

  async #withdraw({ id, nodes }: Extract<DriftOperation, { kind: "withdraw" }>): Promise<void> {
    for (const node of nodes) {
      const driver = this.#driver.at?.(node);
      if (driver === undefined) continue;
      const target = this.#target.at(driver);
      await target.close(id, this.#ctx.config.timings.drain);
      await target.stop(id, null);
      await target.ensureManager();
    }
  }

  async rollOut(release: PlannedRelease, secrets: PerService<SecretValues>, seen: Survey): Promise<void> {
    this.#begin("strategy", strategyText(this.#ctx, release));
    this.#begin("start", `record of ${release.id} written with its secrets, a line in the audit`);
    const parts = hostByHost(this.#ctx, release);
    for (const { ctx, release: here } of parts ?? [{ ctx: this.#ctx, release }])
      await new DryRun(ctx, ctx.driver, this.#begin).bringIntoService(here, secrets);
    if (parts !== null) await this.#drain(withoutOpened(release));
    this.#begin("soak", "what serves is asked again and again; a failure takes everything back");
    this.#begin("mark-good", `record of ${release.id} marked good, a line in the audit`);
    for (const { id, keepWarmMs } of operationsOf(release, "close"))
      await this.#target.stop(id, keepWarmMs > 0 ? ms(keepWarmMs) : null);
    for (const operation of standbyOperations(release, seen.facts.observation.standbys ?? []))
      await this.#standBy(operation, secrets);
    await this.#prune(release, seen);
  }

  async bringIntoService(release: PlannedRelease, secrets: PerService<SecretValues>): Promise<void> {
    await this.#start(release, secrets);
    for (const phase of ["load", "warm-up", "device-proof", "gates"] as const)
      this.#begin(phase, "the candidates are asked over their private sockets");
    for (const operation of operationsOf(release, "build-generation")) this.#begin("gates", describeOperation(operation));
    await this.#switch(release);
    await this.#drain(release);
  }

  async stage(release: PlannedRelease): Promise<void> {
    const specs = operationsOf(release, "start").map(({ instance }) => instance.spec);
    this.#begin("preflight", "every host is looked at, as gpuctl doctor does");
    for (const part of ["code", "models"] as const) {
      this.#begin(part === "code" ? "stage-code" : "stage-models", specs.map(({ service }) => service).join(", ") || "nothing");
      for (const spec of specs)
        if (part === "code" || spec.model !== null) await this.#driver.stage(spec, part, this.#ctx.signal);
    }
  }

  async #start(release: PlannedRelease, secrets: PerService<SecretValues>): Promise<void> {
    if (operationsOf(release, "start").length > 0) await this.#target.ensureManager();
    for (const { id } of operationsOf(release, "free-slot")) await this.#target.stop(id, null);
    for (const { id } of operationsOf(release, "stop-first")) await this.#target.suspend(id, suspendTimes(this.#ctx, release));
    for (const operation of operationsOf(release, "start")) {
      this.#begin("start", describeOperation(operation));
      await this.#target.start(operation.instance, secrets[operation.service] ?? {});
    }
  }

  async #switch(release: PlannedRelease): Promise<void> {
    for (const operation of operationsOf(release, "hand-over")) this.#begin("switch", describeOperation(operation));
    for (const operation of operationsOf(release, "open")) {
      this.#begin("switch", describeOperation(operation));
      for (const target of this.#turns(operation.service)) await target.open(operation.id);
    }
  }

  async #drain(release: PlannedRelease): Promise<void> {
    for (const operation of operationsOf(release, "close")) {
      this.#begin("drain", describeOperation(operation));
      for (const target of this.#turns(operation.service)) await target.close(operation.id, this.#ctx.config.timings.drain);
    }
    for (const operation of operationsOf(release, "stop-dead")) {
      this.#begin("drain", describeOperation(operation));
      await this.#target.stop(operation.id, null);
    }
  }

  /** Traffic moves node by node (lifecycle/turns.ts). */
  #turns(service: ServiceName): readonly LeasedTarget[] {
    return this.#driver.nodesOf?.(service).map(({ driver }) => this.#target.at(driver)) ?? [this.#target];
  }

  /** By what is there now: what ends in between is found by the prune after it. */
  async #prune(release: PlannedRelease, { records }: Survey): Promise<void> {
    const remove = new Set(beyondRetention(records, this.#ctx.config.retain));
    const kept = records.filter(({ id, state }) => state !== "failed" && !remove.has(id));
    const specs = [...kept.map(({ services }) => services), release.services].flatMap((services) =>
      inOrder(services).map(([, { spec }]) => spec),
    );
    this.#begin("prune", "what no kept release needs");
    await this.#target.prune(specs);
  }
}
