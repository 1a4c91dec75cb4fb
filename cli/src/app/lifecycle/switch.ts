import { Failed } from "../../domain/errors.js";
import type { PlannedRelease } from "../../domain/plan.js";
import type { ServiceName } from "../../domain/names.js";
import type { RolloutOperation } from "../../domain/operations.js";
import {
  buildGeneration,
  ensureOf,
  longestHoldMs,
  moveWriter,
  type Ensure,
  type Generation,
  type HandOver,
} from "./index-hand-over.js";
import { seconds } from "./deadline.js";
import { step, type Session } from "./session.js";
import { inTurns } from "./turns.js";

/** How long the switch took, as a client could have noticed it. */
export interface SwitchFigures {
  /** From the first operation to the last candidate being open. */
  switchMs: number;
  /** Time in which writes to the index were held; null when the index did not change hands. */
  heldMs: number | null;
}

/** The operations of one kind, in the order of the plan. */
export function operationsOf<K extends RolloutOperation["kind"]>(
  release: PlannedRelease,
  kind: K,
): readonly Extract<RolloutOperation, { kind: K }>[] {
  return release.operations.filter((operation): operation is Extract<RolloutOperation, { kind: K }> => operation.kind === kind);
}

/** Services that traffic is moved to a new instance of. */
export const newInstances = (release: PlannedRelease): readonly ServiceName[] =>
  operationsOf(release, "open").map(({ service }) => service);

/** Builds the new generation through the index that writes now. Without one, the candidate does it after it took over. */
export async function buildGenerations(session: Session, release: PlannedRelease): Promise<string> {
  const said: string[] = [];
  for (const operation of operationsOf(release, "build-generation")) {
    if (operation.writer === null) continue;
    said.push(await buildGeneration(session, operation.writer, ensureFor(session, operation)));
  }
  return said.join("; ");
}

/**
 * Moves traffic: the index's writer first, then every candidate opens, node by node. Predecessors are closed afterwards, by `drain`.
 * @param moved  gets the name of each node whose traffic is about to move
 */
export async function switchTraffic(session: Session, release: PlannedRelease, moved: Set<string>): Promise<SwitchFigures> {
  const { ctx } = session;
  const began = ctx.clock.monotonic();
  let heldMs: number | null = null;
  const [generation] = operationsOf(release, "build-generation");
  for (const operation of operationsOf(release, "hand-over")) heldMs = await handOver(session, operation, generation);
  for (const { service, id } of operationsOf(release, "open"))
    await inTurns(session, service, id, async ({ target, node }) => {
      if (node !== null) moved.add(node);
      await target.open(id);
    });
  return { switchMs: Math.round(ctx.clock.monotonic() - began), heldMs };
}

async function handOver(session: Session, operation: HandOver, generation: Generation | undefined): Promise<number | null> {
  const ensure: Ensure | null = generation === undefined ? null : ensureFor(session, generation);
  const { gapMs } = await moveWriter(session, operation.from, operation.to, ensure);
  if (operation.from === null) {
    if (ensure !== null) await buildGeneration(session, operation.to, ensure);
    return null;
  }
  step(session.ctx, `writes to the index were held for ${seconds(gapMs)}`);
  if (gapMs > longestHoldMs)
    throw new Failed(`writes to the index were held for ${seconds(gapMs)}, longer than the limit of ${seconds(longestHoldMs)}`, {
      because: "the old index needed that long to finish, or this machine is overloaded",
    });
  return gapMs;
}

const ensureFor = (session: Session, generation: Generation): Ensure => ensureOf(session, generation.space, generation.embedder);

/** Closes the predecessors, node by node, and waits for the requests inside them. Cut-off requests are no reason for a revert. */
export async function drain(session: Session, release: PlannedRelease): Promise<string> {
  const { ctx } = session;
  let longest = 0;
  for (const { service, id } of operationsOf(release, "close")) {
    const successor = operationsOf(release, "open").find((operation) => operation.service === service)?.id ?? null;
    await inTurns(session, service, successor, async ({ target }) => {
      const closed = await target.close(id, ctx.config.timings.drain);
      longest = Math.max(longest, closed.waitedMs);
    });
  }
  for (const { id } of operationsOf(release, "stop-dead")) await session.target.stop(id, null);
  return `longest wait ${seconds(longest)}`;
}
