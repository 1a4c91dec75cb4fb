import type { PerService } from "../../domain/fingerprint.js";
import { gateResult, type Verdict } from "../../domain/gates.js";
import { proofLevels, type InstanceId, type ServiceName } from "../../domain/names.js";
import type { PlannedInstance } from "../../domain/operations.js";
import type { GateResult, ServiceRelease } from "../../domain/release.js";
import { heldTo } from "../../domain/soak.js";
import { ms } from "../../domain/units.js";
import type { Context, Phase } from "../../ports.js";
import { ask, checkAnswers, checkOneAnswer, WrongStatus } from "./answers.js";
import { benchmarkGate } from "./benchmark-gate.js";
import { budgets, pause, seconds, stopIfAsked, within } from "./deadline.js";
import { takeProof } from "./device-proof.js";
import { onEachNode, onNode } from "./on-nodes.js";
import { reasonOf, phase, skipped, step, type Session } from "./session.js";

/** What was measured while candidates were prepared. Filled as it happens, so that a failure keeps what came before it. */
export interface Findings {
  gates: GateResult[];
  measured: Partial<Record<ServiceName, Pick<ServiceRelease, "peakMiB" | "proof">>>;
}

/** A candidate did not do what it must; says which service and in which phase, and carries the end of its log. */
export class CandidateTrouble extends Error {
  readonly service: ServiceName;
  readonly phase: Phase;
  readonly logTail: readonly string[];
  constructor(service: ServiceName, at: Phase, reason: string, logTail: readonly string[], cause: unknown) {
    super(reason, { cause });
    this.service = service;
    this.phase = at;
    this.logTail = logTail;
  }
}

/** Waits until every started instance is loaded. One that exits ends the wait at once, for all. */
export async function waitLoaded(session: Session, instances: readonly PlannedInstance[]): Promise<readonly Verdict[]> {
  const { ctx } = session;
  const began = ctx.clock.monotonic();
  const budget = ctx.config.timings.load;
  const pending = new Map<InstanceId, PlannedInstance>(instances.map((instance) => [instance.id, instance]));
  const verdicts = new Map<InstanceId, Verdict>();
  for (let wait = 20; ; wait = Math.min(250, wait * 1.5)) {
    for (const instance of pending.values()) {
      const health = await troubled(session, instance, "load", () =>
        within(ctx.clock, ms(budgets.ask), `asking ${instance.id}`, () => ctx.driver.health(instance.id)),
      );
      if (health.status === "failed")
        await giveUp(session, instance, "load", `it says failed: ${health.reason ?? "no reason given"}`);
      if (health.status === "loading") continue;
      const detail = `loaded in ${seconds(ctx.clock.monotonic() - began)} on ${health.device ?? "no device"}`;
      verdicts.set(instance.id, { passed: true, detail });
      pending.delete(instance.id);
    }
    const [slow] = pending.values();
    if (slow === undefined) return instances.map((instance) => verdicts.get(instance.id) ?? { passed: true, detail: "loaded" });
    if (ctx.clock.monotonic() - began >= budget)
      await giveUp(session, slow, "load", `it did not finish loading within its budget of ${seconds(budget)}`);
    await pause(ctx.clock, ms(wait), ctx.signal);
  }
}

/** Runs every shape once at its worst batch, on every node, and notes the most memory that took. */
export function warmUp(session: Session, instance: PlannedInstance, findings: Findings): Promise<void> {
  return onEachNode(session, instance.service, (there, node) => warmUpOn(there, node, instance, findings));
}

async function warmUpOn(session: Session, node: string | null, instance: PlannedInstance, findings: Findings): Promise<void> {
  const { ctx } = session;
  const work = async (): Promise<string> => {
    const answer = (await ask(
      ctx,
      instance.id,
      { method: "POST", path: "/private/warmup", body: {} },
      ctx.config.timings.warmUp,
    )) as {
      peakRssMiB?: unknown;
      shapes?: readonly unknown[];
    } | null;
    const peakMiB = typeof answer?.peakRssMiB === "number" ? Math.ceil(answer.peakRssMiB) : null;
    const before = findings.measured[instance.service];
    const most = Math.max(peakMiB ?? 0, before?.peakMiB ?? 0);
    findings.measured[instance.service] = { peakMiB: most > 0 ? most : null, proof: before?.proof ?? null };
    const detail = `${answer?.shapes?.length ?? 0} shapes, peak ${peakMiB ?? "unknown"} MiB`;
    findings.gates.push(resultOf(instance.service, node, "warm-up", { passed: true, detail }));
    return onNode(node, detail);
  };
  await phase(
    ctx,
    "warm-up",
    instance.service,
    () => troubled(session, instance, "warm-up", work),
    (detail) => detail,
  );
}

/** Makes the live session prove where it runs, on every node. Fails closed: an unreadable proof is no proof. */
export function proveDevice(session: Session, instance: PlannedInstance, findings: Findings): Promise<void> {
  return onEachNode(session, instance.service, (there, node) => proveDeviceOn(there, node, instance, findings));
}

async function proveDeviceOn(
  session: Session,
  node: string | null,
  instance: PlannedInstance,
  findings: Findings,
): Promise<void> {
  const { ctx } = session;
  const work = async (): Promise<Verdict> => {
    const verdict = await takeProof(ctx, instance);
    if (verdict.proof !== null) {
      const { device, level } = verdict.proof;
      const before = findings.measured[instance.service];
      const proof = weakest(before?.proof ?? null, { device, level });
      findings.measured[instance.service] = { peakMiB: peakOf(before, verdict.heldMiB), proof };
    }
    return verdict;
  };
  await gatePhase({ session, node, instance, findings }, "device-proof", "device-proof", work);
}

/** What warm-up left on a GPU counts there and not the memory of the process; of several nodes, the most. */
function peakOf(before: Findings["measured"][ServiceName], heldMiB: number | null | undefined): number | null {
  const known = before?.peakMiB ?? null;
  if (heldMiB === undefined) return known;
  const others = before?.proof?.device === "cuda" ? known : null;
  return heldMiB === null || others === null ? (heldMiB ?? others) : Math.max(others, heldMiB);
}

/** What all nodes have proven: no more than the one that proved least. */
function weakest(a: ServiceRelease["proof"], b: NonNullable<ServiceRelease["proof"]>): NonNullable<ServiceRelease["proof"]> {
  if (a === null) return b;
  return proofLevels.indexOf(a.level) <= proofLevels.indexOf(b.level) ? a : b;
}

/** Correctness against the model's probes, then the benchmark when one is configured, on every node. */
export function passGates(
  session: Session,
  instance: PlannedInstance,
  predecessorRuns: boolean,
  findings: Findings,
): Promise<void> {
  return onEachNode(session, instance.service, (there, node) => passGatesOn(there, node, instance, predecessorRuns, findings));
}

async function passGatesOn(
  session: Session,
  node: string | null,
  instance: PlannedInstance,
  predecessorRuns: boolean,
  findings: Findings,
): Promise<void> {
  const { ctx } = session;
  const gated = { session, node, instance, findings };
  await gatePhase(gated, "gates", "correctness", () => checkAnswers(ctx, instance.id, instance.spec, predecessorRuns));
  const gate = ctx.config.services[instance.service]?.benchmarkGate ?? null;
  if (gate === null) {
    const detail = "benchmark: not configured";
    skipped(ctx, "gates", detail, instance.service);
    findings.gates.push({ ...resultOf(instance.service, node, "benchmark", { passed: true, detail }), outcome: "skipped" });
    return;
  }
  await gatePhase(gated, "gates", "benchmark", () => benchmarkGate(ctx, instance, gate));
}

/** A paused instance proved itself when it was deployed; it must still be healthy and still answer rightly. */
export function verifyWarm(
  session: Session,
  instance: PlannedInstance,
  proof: ServiceRelease["proof"],
  findings: Findings,
): Promise<void> {
  return onEachNode(session, instance.service, (there, node) => verifyWarmOn(there, node, instance, proof, findings));
}

async function verifyWarmOn(
  session: Session,
  node: string | null,
  instance: PlannedInstance,
  proof: ServiceRelease["proof"],
  findings: Findings,
): Promise<void> {
  const { ctx } = session;
  const work = async (): Promise<Verdict> => {
    const health = await within(ctx.clock, ms(budgets.ask), `asking ${instance.id}`, () => ctx.driver.health(instance.id));
    if (health.status !== "healthy" && health.status !== "degraded")
      return { passed: false, detail: `the warm instance says ${health.status}` };
    const provenOn = heldTo(instance.service, proof);
    if (provenOn !== null && health.device !== provenOn)
      return { passed: false, detail: `it was proven on ${provenOn} and now runs on ${health.device ?? "no device"}` };
    const answer = await checkOneAnswer(ctx, instance.id, instance.spec);
    return answer.passed ? { ...answer, detail: `still warm: ${answer.detail}` } : answer;
  };
  await gatePhase({ session, node, instance, findings }, "gates", "correctness", work);
}

/** An instance before a gate, and where. */
interface Gated {
  session: Session;
  node: string | null;
  instance: PlannedInstance;
  findings: Findings;
}

async function gatePhase(
  { session, node, instance, findings }: Gated,
  at: Phase,
  gate: GateResult["gate"],
  work: () => Promise<Verdict>,
): Promise<void> {
  const run = async (): Promise<Verdict> => {
    const verdict = await troubled(session, instance, at, () => judged(work));
    findings.gates.push(resultOf(instance.service, node, gate, verdict));
    if (!verdict.passed) {
      const where = node === null ? "" : ` on ${node}`;
      await giveUp(session, instance, at, `the ${gate} gate failed${where}: ${verdict.detail}`);
    }
    return verdict;
  };
  const said = ({ detail }: Verdict): string => onNode(node, gate === at ? detail : `${gate}: ${detail}`);
  await phase(session.ctx, at, instance.service, run, said);
}

function resultOf(service: ServiceName, node: string | null, gate: GateResult["gate"], verdict: Verdict): GateResult {
  const result = gateResult(service, gate, verdict);
  return node === null ? result : { ...result, node };
}

/** An instance that answers a gate with an error has failed the gate; one that does not answer is in trouble. */
async function judged(work: () => Promise<Verdict>): Promise<Verdict> {
  try {
    return await work();
  } catch (thrown) {
    if (thrown instanceof WrongStatus) return { passed: false, detail: thrown.message };
    throw thrown;
  }
}

/** Runs one look at a candidate; whatever goes wrong becomes the candidate's trouble, with its log. */
export async function troubled<T>(session: Session, instance: PlannedInstance, at: Phase, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    stopIfAsked(session.ctx.signal);
    if (thrown instanceof CandidateTrouble) throw thrown;
    return giveUp(session, instance, at, reasonOf(thrown), thrown);
  }
}

async function giveUp(session: Session, instance: PlannedInstance, at: Phase, reason: string, cause?: unknown): Promise<never> {
  const logTail = await tailOf(session.ctx, instance.id);
  if (logTail.length > 0) step(session.ctx, `last lines of ${instance.id}:`);
  for (const line of logTail) step(session.ctx, `  ${line}`);
  throw new CandidateTrouble(instance.service, at, `${instance.service}: ${reason}`, logTail, cause);
}

async function tailOf(ctx: Context, id: InstanceId): Promise<readonly string[]> {
  try {
    return await within(ctx.clock, ms(budgets.ask), `reading the log of ${id}`, () => ctx.driver.logTail(id, 15));
  } catch {
    return [];
  }
}

/** Records what was measured on the services of a release. */
export function withMeasurements(services: PerService<ServiceRelease>, findings: Findings): PerService<ServiceRelease> {
  const result: Partial<Record<ServiceName, ServiceRelease>> = { ...services };
  for (const [service, measured] of Object.entries(findings.measured) as [ServiceName, Findings["measured"][ServiceName]][]) {
    const release = result[service];
    if (release === undefined || measured === undefined) continue;
    result[service] = { ...release, peakMiB: measured.peakMiB ?? release.peakMiB, proof: measured.proof ?? release.proof };
  }
  return result;
}
