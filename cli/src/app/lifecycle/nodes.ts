import { TargetUnreachable } from "../../domain/errors.js";
import type { Context, Observation } from "../../ports.js";
import { reasonOf, step } from "./session.js";

/** Nodes that said nothing, with the reason. */
export function silentNodes(observation: Observation): readonly { node: string; because: string }[] {
  return (observation.nodes ?? []).flatMap(({ node, silent }) => (silent === null ? [] : [{ node, because: silent }]));
}

/**
 * Refuses to begin what has to hold on all nodes while one of them cannot be reached. Nothing has changed.
 * @param command  what may be asked again for the others alone; null for what needs no such way on
 */
export function requireEveryNode(ctx: Context, observation: Observation, command: string | null = null): void {
  const silent = silentNodes(observation);
  const [first] = silent;
  if (first === undefined) return;
  const names = silent.map(({ node }) => node);
  const others = (ctx.nodes?.chosen ?? ctx.nodes?.names ?? []).filter((node) => !names.includes(node));
  const spared = others.length === 0 ? [] : [`gpuctl repair --hosts ${others.join(",")}, to put right the others meanwhile`];
  throw new TargetUnreachable(`${names.join(" and ")} cannot be reached, and nothing was changed`, {
    because: silent.map(({ node, because }) => (because.includes(node) ? because : `${node}: ${because}`)).join("; "),
    nextSteps: [
      "gpuctl doctor",
      ...spared,
      ...(others.length === 0 || command === null
        ? []
        : [`gpuctl ${command} --hosts ${others.join(",")}, to go on without ${names.length === 1 ? "it" : "them"}`]),
      `or take ${names.length === 1 ? "it" : "them"} out of nodes in ${ctx.config.projectFile}, to deploy without ${names.length === 1 ? "it" : "them"}`,
    ],
    data: { nodes: names },
  });
}

/** A survey that fails because a node cannot be reached is told as that node's trouble, with the ways on. */
export async function surveying<T>(ctx: Context, command: string | null, survey: () => Promise<T>): Promise<T> {
  try {
    return await survey();
  } catch (thrown) {
    if (!(thrown instanceof TargetUnreachable) || ctx.nodes === undefined) throw thrown;
    const observation = await ctx.driver.observe().catch(() => null);
    if (observation !== null) requireEveryNode(ctx, observation, command);
    throw thrown;
  }
}

/**
 * Gives up the nodes that say nothing, so that the others can be taken back without them. The last one is kept: without any node there
 * is nothing to take back, and its own failure says why.
 */
export async function giveUpSilent(ctx: Context): Promise<void> {
  const { nodes } = ctx;
  if (nodes === undefined) return;
  const observation = await ctx.driver.observe().catch(() => null);
  for (const { node, because } of observation === null ? [] : silentNodes(observation)) giveUp(ctx, node, because);
}

/** Gives up a node unless it is the last one. Whether it did. */
function giveUp(ctx: Context, node: string, because: string): boolean {
  const { nodes } = ctx;
  if (nodes === undefined || nodes.lost.has(node)) return false;
  const left = (nodes.chosen ?? nodes.names).filter((name) => !nodes.lost.has(name));
  if (left.length < 2) return false;
  step(ctx, `${node} is left as it is: ${because}`);
  nodes.giveUp(node, because);
  return true;
}

/** Gives up the node that something went wrong on, when it is known which. Whether it did. */
export function giveUpBlamed(ctx: Context, thrown: unknown): boolean {
  const node = ctx.nodes?.failedOn(thrown) ?? null;
  return node !== null && giveUp(ctx, node, reasonOf(thrown));
}
