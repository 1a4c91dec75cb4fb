import { Failed } from "../../domain/errors.js";
import type { InstanceId, ServiceName } from "../../domain/names.js";
import { ms } from "../../domain/units.js";
import type { Context, NodeTarget } from "../../ports.js";
import { budgets, within } from "./deadline.js";
import type { LeasedTarget } from "./leased-target.js";
import { reasonOf, type Session } from "./session.js";

/** Where traffic is moved at one moment: on one node, or on a target with a single place. */
interface Turn {
  target: LeasedTarget;
  ctx: Context;
  /** Null where there is only one place. */
  node: string | null;
}

/**
 * Moves traffic of a service: on a few nodes at a time, in the order of gpuctl.yaml, and on the next ones only when the instance that
 * serves now is in order on those before. The first failure ends it, with the node to blame; nobody after that node was touched.
 * @param serves  the instance that traffic is moved to; null when the service ends
 */
export async function inTurns(
  session: Session,
  service: ServiceName,
  serves: InstanceId | null,
  work: (turn: Turn) => Promise<void>,
): Promise<void> {
  const { ctx, target } = session;
  const hosts = ctx.driver.nodesOf?.(service);
  if (hosts === undefined) return work({ ctx, target, node: null });
  const atOnce = Math.max(1, ctx.nodes?.parallel ?? 1);
  for (let next = 0; next < hosts.length; next += atOnce) {
    const turns = hosts.slice(next, next + atOnce).map((host) => turnOf(session, host));
    const ended = await Promise.allSettled(turns.map(work));
    const last = next + atOnce >= hosts.length;
    const looked = last || serves === null ? [] : await Promise.allSettled(turns.map((turn) => standsUp(turn, serves)));
    for (const outcomes of [ended, looked]) throwFirst(ctx, turns, outcomes);
  }
}

function turnOf({ ctx, target }: Session, { node, driver }: NodeTarget): Turn {
  return { node, ctx: { ...ctx, driver }, target: target.at(driver, node) };
}

/** Whether what traffic was moved to is in order everywhere that a service runs; throws with the node to blame when it is not. */
export async function standsUpEverywhere(session: Session, service: ServiceName, serves: InstanceId): Promise<void> {
  const turns = (session.ctx.driver.nodesOf?.(service) ?? []).map((host) => turnOf(session, host));
  throwFirst(session.ctx, turns, await Promise.allSettled(turns.map((turn) => standsUp(turn, serves))));
}

/** Before the next node gets it: what fails under real traffic should fail on few nodes. */
async function standsUp({ ctx }: Turn, id: InstanceId): Promise<void> {
  const health = await within(ctx.clock, ms(budgets.ask), `asking ${id}`, () => ctx.driver.health(id));
  if (health.status === "healthy" || health.status === "degraded") return;
  throw new Failed(`${id} says ${health.status} with traffic`, health.reason === null ? {} : { because: health.reason });
}

function throwFirst(ctx: Context, turns: readonly Turn[], outcomes: readonly PromiseSettledResult<void>[]): void {
  for (const [position, outcome] of outcomes.entries()) {
    const node = turns[position]?.node ?? null;
    if (outcome.status === "rejected" && node !== null) ctx.nodes?.blame(outcome.reason, node);
  }
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}

/** One sentence about what was thrown, with the node it went wrong on. */
export function reasonOnNode(ctx: Context, thrown: unknown): string {
  const [reason, node] = [reasonOf(thrown), ctx.nodes?.failedOn(thrown) ?? null];
  return node === null || reason.includes(node) || ctx.nodes?.names.length === 1 ? reason : `${node}: ${reason}`;
}
