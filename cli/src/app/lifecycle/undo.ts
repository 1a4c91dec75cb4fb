import { CandidateFailed, GpuctlError, Interrupted, TargetMixed, TargetUnreachable } from "../../domain/errors.js";
import { inOrder } from "../../domain/fingerprint.js";
import type { PlannedRelease } from "../../domain/plan.js";
import type { ReleaseRecord } from "../../domain/release.js";
import { ms } from "../../domain/units.js";
import type { Context } from "../../ports.js";
import type { HostRow } from "../../domain/host-table.js";
import { hostLines } from "../render/host-table-text.js";
import { hostRows } from "./host-rows.js";
import { hostByHost, partOf } from "./host-by-host.js";
import { giveUpBlamed, giveUpSilent, silentNodes } from "./nodes.js";
import { CandidateTrouble, type Findings } from "./prepare.js";
import { observe } from "./observe.js";
import { mend } from "./mend.js";
import { reasonOf, step, type Session } from "./session.js";
import { keepCurrent } from "./survey.js";
import { reasonOnNode } from "./turns.js";
import type { PerService } from "../../domain/fingerprint.js";
import { instanceOf } from "../../domain/drift.js";
import type { ServiceName } from "../../domain/names.js";

/** A release that did not make it. */
export interface Unmade {
  record: ReleaseRecord;
  release: PlannedRelease;
  current: ReleaseRecord | null;
  findings: Findings;
  action: string;
  /** Nodes whose traffic was moved, or may have been. */
  moved: ReadonlySet<string>;
}

/** Tries for one and the same cause; then the node that it is about is given up, where there are others. */
const attempts = 3;
/** A target that cannot be reached is tried again for so long: connections come back, and after 30 s the lease is anybody's. */
const patienceMs = 25_000;
const pauseMs = ms(1000);

/** The same session, deaf to SIGINT and SIGTERM: for what must be finished or taken back, never left half done. */
export function withoutInterruption(session: Session): Session {
  return { ...session, ctx: { ...session.ctx, signal: new AbortController().signal } };
}

/**
 * Takes a release back: writes down that it failed, then mends the environment to the release that was current before. A node that
 * cannot be reached, or not be mended, does not keep the others from coming back.
 * Returns what to throw: the candidate's failure, the interruption, or that the target was left mixed.
 */
export async function undo(session: Session, unmade: Unmade, failure: unknown): Promise<GpuctlError> {
  const quiet = withoutInterruption(session);
  const { record } = unmade;
  const reason = reasonOnNode(quiet.ctx, failure);
  step(quiet.ctx, `taking ${record.id} back: ${reason}`);
  await untilReachable(quiet.ctx);
  await giveUpSilent(quiet.ctx);
  await writeFailure(quiet, unmade, reason);
  const problem = await takeBack(quiet, unmade);
  const hosts = await hostRows(quiet.ctx, unmade.current, record, unmade.moved);
  if (problem !== null) return leftMixed(unmade, { reason, problem, hosts });
  const outcomes = await outcomesOf(quiet, unmade.current);
  await writeAudit(quiet, record, reason);
  const mixed = hosts.filter(({ state }) => state === "unknown" || state === "mixed" || state === "new");
  if (mixed.length > 0) return leftMixed(unmade, { reason, problem: null, hosts });
  const node = quiet.ctx.nodes?.names.length === 1 ? null : (quiet.ctx.nodes?.failedOn(failure) ?? null);
  return explain(unmade, failure, { reason, node, outcomes, hosts });
}

/** Whoever is silent gets some time before anything is concluded from it. */
async function untilReachable(ctx: Context): Promise<void> {
  const began = ctx.clock.monotonic();
  for (;;) {
    const all = await ctx.driver.observe().then(
      (seen) => silentNodes(seen).length === 0,
      (thrown: unknown) => !(thrown instanceof TargetUnreachable),
    );
    if (all || ctx.clock.monotonic() - began >= patienceMs) return;
    await ctx.clock.sleep(pauseMs);
  }
}

/** Mends to the release of before. Null when that went well on every node that was not given up, else why not. */
async function takeBack(session: Session, unmade: Unmade): Promise<unknown> {
  let problem: unknown = null;
  for (let tries = 0; tries < attempts; tries += 1) {
    try {
      await mendEverywhere(session, unmade);
      return null;
    } catch (thrown) {
      problem = thrown;
      await giveUpSilent(session.ctx);
      if (tries === attempts - 1 && giveUpBlamed(session.ctx, thrown)) tries = -1;
    }
  }
  return problem ?? new Error("nothing was tried");
}

/** As it came, it goes: host by host where there is no room for both, and first where nothing answers now. */
async function mendEverywhere(session: Session, { release, record, moved }: Unmade): Promise<void> {
  const nodes = (hostByHost(session.ctx, release) ?? []).flatMap((part) => part.nodes);
  const atOnce = session.ctx.nodes?.parallel ?? 1;
  // Of those that traffic was moved on, the last is the one where that may have gone wrong.
  const switched = nodes.filter((node) => moved.has(node)).reverse();
  for (const some of [nodes.filter((node) => !moved.has(node)), switched])
    for (let next = 0; next < some.length; next += atOnce) {
      const { ctx } = partOf(session.ctx, release, some.slice(next, next + atOnce));
      await mend({ ctx, target: session.target.at(ctx.driver) }, keepCurrent, record.id);
    }
  await mend(session, keepCurrent, record.id);
}

/** Best effort: a full disk must not keep the old release from coming back. The next command settles an unwritten failure. */
async function writeFailure(session: Session, unmade: Unmade, reason: string): Promise<void> {
  const { ctx, target } = session;
  const { record, findings } = unmade;
  try {
    await target.check();
    const finishedAt = ctx.clock.now().toISOString();
    await ctx.releases.update({ ...record, state: "failed", failure: reason, finishedAt, gates: [...findings.gates] });
  } catch (thrown) {
    ctx.progress.emit({ kind: "warning", text: `the failure of ${record.id} was not recorded: ${reasonOf(thrown)}` });
  }
}

async function writeAudit(session: Session, record: ReleaseRecord, reason: string): Promise<void> {
  await session.ctx.audit.append({ action: "failed", release: record.id, detail: reason }).catch(() => undefined);
}

/** Per service, what answers now. */
async function outcomesOf(session: Session, current: ReleaseRecord | null): Promise<PerService<string>> {
  const { instances } = await observe(session.ctx);
  const result: Partial<Record<ServiceName, string>> = {};
  for (const [service, release] of inOrder(current?.services ?? {})) {
    const serving = instances.find((instance) => instance.id === instanceOf(release));
    result[service] = serving?.traffic === "open" ? `${serving.id} serves` : "nothing serves";
  }
  return result;
}

interface Ending {
  reason: string;
  /** The one of several nodes that it went wrong on, when that is known. */
  node: string | null;
  outcomes: PerService<string>;
  hosts: readonly HostRow[];
}

function explain(unmade: Unmade, failure: unknown, { reason, node, outcomes, hosts }: Ending): GpuctlError {
  const { record, current } = unmade;
  const serving = current === null ? "nothing serves, as before" : `${current.id} keeps serving`;
  const data = { release: record.id, serving: current?.id ?? null, outcomes, ...(hosts.length === 0 ? {} : { hosts }) };
  const lines = hostLines(hosts);
  const left = hosts.filter(({ state }) => state === "left").map((row) => row.node);
  if (failure instanceof Interrupted)
    return new Interrupted(`${unmade.action} stopped on request: ${record.id} was taken back and ${serving}`, {
      data,
      lines,
      nextSteps: whenBack(left),
      cause: failure,
    });
  const trouble = failure instanceof CandidateTrouble ? failure : null;
  const onHost = node === null || left.includes(node) ? "" : ` --hosts ${node}`;
  const nextSteps = [
    ...whenBack(left),
    trouble === null ? (onHost === "" ? "gpuctl status" : `gpuctl logs${onHost}`) : `gpuctl logs ${trouble.service}${onHost}`,
    ...(current === null ? [] : [`gpuctl diff ${current.id} ${record.id}`]),
  ];
  const why = failure instanceof GpuctlError && failure.because !== undefined ? `${failure.message}: ${failure.because}` : reason;
  return new CandidateFailed(`${record.id} failed; ${serving}`, {
    because: node === null || why.includes(node) ? why : `${node}: ${why}`,
    lines,
    nextSteps,
    data: trouble === null ? data : { ...data, service: trouble.service, phase: trouble.phase, logTail: trouble.logTail },
    cause: failure,
  });
}

const whenBack = (nodes: readonly string[]): readonly string[] =>
  nodes.length === 0 ? [] : [`gpuctl repair --hosts ${nodes.join(",")}, when ${nodes.length === 1 ? "it is" : "they are"} back`];

function leftMixed(unmade: Unmade, ending: { reason: string; problem: unknown; hosts: readonly HostRow[] }): TargetMixed {
  const { record, current } = unmade;
  const { reason, problem, hosts } = ending;
  const stuck = hosts.filter(({ state }) => state !== "before" && state !== "left-out").map(({ node }) => node);
  const before = current?.id ?? "the empty state before it";
  const what =
    stuck.length === 0 ? `${before} could not be restored` : `${stuck.join(" and ")} could not be taken back to ${before}`;
  const repair =
    stuck.length === 0 || stuck.length === hosts.length
      ? ["gpuctl repair"]
      : [`gpuctl repair --hosts ${stuck.join(",")}, once ${stuck.length === 1 ? "it is" : "they are"} in order again`];
  return new TargetMixed(`${record.id} failed and ${what}`, {
    because: problem === null ? reason : `${reason}; then ${reasonOf(problem)}`,
    lines: hostLines(hosts),
    nextSteps: [
      ...(stuck.length === 0 ? ["gpuctl status"] : []),
      ...repair,
      ...(hosts.length < 2 ? [] : [`gpuctl deploy --continue, to finish ${record.id} instead`]),
      ...(stuck.length === 0 ? [] : ["gpuctl status"]),
    ],
    data: { release: record.id, wanted: current?.id ?? null, ...(hosts.length === 0 ? {} : { hosts }) },
    cause: problem,
  });
}
