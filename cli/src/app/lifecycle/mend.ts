import { Failed, GpuctlError } from "../../domain/errors.js";
import type { DriftOperation } from "../../domain/operations.js";
import { describeOperation } from "../../domain/operations.js";
import { instanceOf } from "../../domain/drift.js";
import { inOrder } from "../../domain/fingerprint.js";
import type { ReleaseId, ServiceName } from "../../domain/names.js";
import type { ReleaseRecord } from "../../domain/release.js";
import { ms } from "../../domain/units.js";
import { bringWriterTo } from "./index-hand-over.js";
import { silentNodes } from "./nodes.js";
import { observe } from "./observe.js";
import { CandidateTrouble, passGates, proveDevice, troubled, verifyWarm, waitLoaded, warmUp, type Findings } from "./prepare.js";
import { roomFirst, warmFor } from "./room.js";
import { phase, reasonOf, step, type Session } from "./session.js";
import { standBy } from "./stand-by.js";
import { stageOne } from "./staging.js";
import { survey, type Decide, type Survey, type Wish } from "./survey.js";

const rounds = 5;
/** An instance that nobody should have reached gets this long to answer what it already accepted. */
const shortDrain = ms(5000);

/** What a mending did, a line each. */
export type Mended = readonly string[];

/**
 * Surveys, puts right what has drifted, and surveys again until nothing has: the survey it returns is the one to act on.
 * Deploy, rollback, repair and the undoing of a failed candidate all pass through here.
 */
export async function mend<W extends Wish>(
  session: Session,
  decide: Decide<W>,
  giveUp: ReleaseId | null = null,
): Promise<{ survey: Survey & { wish: W }; mended: Mended }> {
  const mended: string[] = [];
  const lost = new Map<ServiceName, Error>();
  // Behind these somebody was put, or could not be.
  const tended = new Set<ServiceName>();
  for (let round = 0; round < rounds; round += 1) {
    const now = await survey(session.ctx, decide, giveUp);
    const drift = now.plan.drift.filter((operation) => !isLeft(operation, lost, tended, giveUp !== null));
    if (drift.length === 0) {
      // Files that only `models fetch` can put back must not bar the way to another release, nor back to this one.
      const [problem] = lost.values();
      if (problem !== undefined && now.plan.release === null && giveUp === null) throw problem;
      if (giveUp === null) await forgetLeftOut(session, now);
      return { survey: now, mended };
    }
    for (const operation of roomFirst(firstOf(drift), now)) {
      step(session.ctx, describeOperation(operation));
      if (operation.kind === "stand-by") {
        tended.add(operation.service);
        if (now.current !== null && (await standBy(session, now.current, operation))) mended.push(describeOperation(operation));
        continue;
      }
      try {
        await applyOrSay(session, now, operation);
        mended.push(describeOperation(operation));
      } catch (thrown) {
        if (operation.kind !== "restage" || !serves(now, operation.service) || !(thrown instanceof Error)) throw thrown;
        session.ctx.progress.emit({ kind: "warning", text: reasonOf(thrown) });
        lost.set(operation.service, thrown);
      }
    }
  }
  throw new Failed("the environment does not come to rest", {
    because: `after ${rounds} rounds of mending something still differs from the current release`,
    nextSteps: ["gpuctl status", "gpuctl logs"],
  });
}

/** Once all hosts are there and level, none is told as left out any more. On a part of them the record would differ from the others'. */
async function forgetLeftOut({ ctx, target }: Session, { current, facts }: Survey): Promise<void> {
  if (current?.leftOut === undefined || ctx.nodes?.chosen !== null) return;
  if (ctx.nodes.lost.size > 0 || silentNodes(facts.observation).length > 0) return;
  const { leftOut: _, ...record } = current;
  await target.check();
  await ctx.releases.update(record);
}

/** Whether an operation is not for now: what failed once, and while a failed release is taken back all that can wait. */
function isLeft(
  operation: DriftOperation,
  lost: ReadonlyMap<ServiceName, Error>,
  tended: ReadonlySet<ServiceName>,
  undoing: boolean,
): boolean {
  if (operation.kind === "ensure-manager") return undoing && operation.runs === true;
  if (operation.kind === "stand-by") return undoing || tended.has(operation.service);
  return operation.kind === "restage" && lost.has(operation.service);
}

/** Records and manager come first and alone: both change what everything else is planned from. */
function firstOf(drift: readonly DriftOperation[]): readonly DriftOperation[] {
  const copies = drift.filter(({ kind }) => kind === "copy-records");
  if (copies.length > 0) return copies;
  const first = drift.filter(({ kind }) => kind === "settle" || kind === "ensure-manager");
  return first.length > 0 ? first : drift;
}

/** Whether a service of the current release answers, whatever became of the files it was started from. */
function serves({ current, facts }: Survey, service: ServiceName): boolean {
  const release = current?.services[service];
  return facts.observed.instances.some(
    ({ id, process, traffic }) =>
      release !== undefined && id === instanceOf(release) && process === "running" && traffic === "open",
  );
}

type MendOperation = Exclude<DriftOperation, { kind: "stand-by" }>;

/** Trouble with an instance that should simply be there again is no candidate's failure: it has its own words. */
async function applyOrSay(session: Session, now: Survey, operation: MendOperation): Promise<void> {
  try {
    await apply(session, now, operation);
  } catch (thrown) {
    if (!(thrown instanceof CandidateTrouble)) throw thrown;
    throw new Failed(`${thrown.service} of ${now.current?.id ?? "this environment"} could not be brought back`, {
      because: thrown.message,
      nextSteps: [`gpuctl logs ${thrown.service}`, "gpuctl rollback"],
      data: { service: thrown.service, phase: thrown.phase, logTail: thrown.logTail },
      cause: thrown,
    });
  }
}

async function apply(session: Session, now: Survey, operation: MendOperation): Promise<void> {
  const { ctx, target } = session;
  switch (operation.kind) {
    case "copy-records":
      await target.check();
      for (const line of (await ctx.releases.complete?.()) ?? []) step(ctx, line);
      return;
    case "settle":
      return settle(session, now.stored.records, operation);
    case "ensure-manager":
      return target.ensureManager();
    case "restage":
      for (const part of ["code", "models"] as const) step(ctx, await stageOne(ctx, operation.spec, part));
      return;
    case "move-writer":
      return bringWriterTo(session, operation.to, operation.from === null ? [] : [operation.from]);
    case "reopen":
      return reopen(session, now, operation);
    case "restart":
      return restart(session, now, operation);
    case "withdraw":
      return withdraw(session, now, operation);
    case "retire":
      if (operation.open) await target.close(operation.id, ctx.config.timings.drain);
      return target.stop(operation.id, warmFor(now.current, operation.service, ctx.config.timings.keepWarm));
    case "discard":
      if (operation.open) await target.close(operation.id, shortDrain).catch(() => undefined);
      return target.stop(operation.id, null);
  }
}

async function settle(
  session: Session,
  records: readonly ReleaseRecord[],
  operation: Extract<DriftOperation, { kind: "settle" }>,
): Promise<void> {
  const { ctx, target } = session;
  const record = records.find((candidate) => candidate.id === operation.release);
  if (record === undefined) return;
  const finishedAt = ctx.clock.now().toISOString();
  const good = operation.verdict === "finish";
  await target.check();
  await ctx.releases.update(
    good ? { ...record, state: "good", finishedAt } : { ...record, state: "failed", failure: operation.because, finishedAt },
  );
  await ctx.audit.append({
    action: "settle",
    release: record.id,
    detail: `${good ? "finished" : "given up"}: ${operation.because}`,
  });
}

/** Ends a service on nodes that are not to run it any more, warm predecessors too; what stood beside it there follows. */
async function withdraw(session: Session, now: Survey, operation: Extract<DriftOperation, { kind: "withdraw" }>): Promise<void> {
  const { ctx, target } = session;
  const { service, id } = operation;
  const kept = now.stored.records.filter(({ state }) => state !== "failed").flatMap((record) => inOrder(record.services));
  const others = kept.filter(([name]) => name !== service).map(([, { spec }]) => spec);
  for (const node of operation.nodes) {
    const driver = ctx.driver.at?.(node);
    if (driver === undefined) continue;
    const there = target.at(driver, node);
    await there.close(id, ctx.config.timings.drain);
    for (const each of (await observe({ ...ctx, driver })).instances)
      if (each.service === service && each.process.state === "running") await there.stop(each.id, null);
    await there.prune(others);
    await there.ensureManager();
  }
}

/** Opens an instance of the current release that runs but does not answer, once it has shown that it can. */
async function reopen(session: Session, now: Survey, operation: Extract<DriftOperation, { kind: "reopen" }>): Promise<void> {
  const release = now.current?.services[operation.service];
  if (release === undefined) return;
  const instance = {
    id: operation.id,
    service: operation.service,
    release: release.since,
    slot: release.slot,
    spec: release.spec,
  };
  try {
    await waitLoaded(session, [instance]);
    await verifyWarm(session, instance, release.proof, noFindings());
    await session.target.open(operation.id);
  } catch (thrown) {
    if (!(await ends(session, operation.id, thrown))) throw thrown;
    // A command that was killed had told it to end. That is finished here, and the next round starts it again.
    await session.target.stop(operation.id, null);
  }
}

/** Whether an instance could not be opened because it is about to end, or has ended since it was seen. */
async function ends(session: Session, id: string, thrown: unknown): Promise<boolean> {
  if (!(thrown instanceof GpuctlError)) return false;
  if (thrown.data?.["code"] === "ending") return true;
  const { instances } = await observe(session.ctx);
  return !instances.some((instance) => instance.id === id && instance.process.state === "running");
}

/** Starts an instance of the current release again; it answers only after the same gates as when it was deployed. */
async function restart(session: Session, now: Survey, operation: Extract<DriftOperation, { kind: "restart" }>): Promise<void> {
  const { ctx, target } = session;
  const { instance, service } = operation;
  if (now.current === null) return;
  // Its node may be new to the service: the proxy there has to know of it.
  if (ctx.nodes !== undefined) await target.ensureManager();
  const secrets = (await ctx.releases.secrets(now.current.id))[service] ?? {};
  const findings = noFindings();
  await phase(ctx, "start", service, () =>
    troubled(session, instance, "start", () => startUnlessRunning(session, instance.id, () => target.start(instance, secrets))),
  );
  await phase(
    ctx,
    "load",
    service,
    () => waitLoaded(session, [instance]),
    ([verdict]) => verdict?.detail,
  );
  await warmUp(session, instance, findings);
  await proveDevice(session, instance, findings);
  await passGates(session, instance, false, findings);
  if (service === "index") await bringWriterTo(session, instance.id, otherIndexes(now, instance.id));
  await target.open(instance.id);
}

/** The manager restarts what was open by itself: it may have been faster. */
async function startUnlessRunning(session: Session, id: string, start: () => Promise<void>): Promise<void> {
  const { instances } = await observe(session.ctx);
  const running = instances.some(
    (instance) => instance.id === id && instance.process.state === "running" && instance.partial === undefined,
  );
  if (!running) await start();
}

const otherIndexes = (now: Survey, id: string): readonly string[] =>
  now.facts.observed.instances
    .filter((instance) => instance.service === "index" && instance.process === "running" && instance.id !== id)
    .map((instance) => instance.id);

const noFindings = (): Findings => ({ gates: [], measured: {} });
