import type { ServiceName } from "../../domain/names.js";
import type { Context } from "../../ports.js";
import type { Session } from "./session.js";

/** One place where an instance has to hold what is asked of it. */
export interface Place {
  /** Null where there is only one: then nobody has to be told which. */
  node: string | null;
  ctx: Context;
}

/** Every place that runs a service; what is asked through its context is asked there. */
export function placesOf(ctx: Context, service: ServiceName): readonly Place[] {
  const nodes = ctx.driver.nodesOf?.(service) ?? [];
  if (nodes.length === 0 || (ctx.nodes?.names.length ?? 1) < 2) return [{ node: null, ctx }];
  return nodes.map(({ node, driver }) => ({ node, ctx: { ...ctx, driver } }));
}

/** Does something on every node that runs a service, one after the other. */
export async function onEachNode(
  session: Session,
  service: ServiceName,
  work: (session: Session, node: string | null) => Promise<void>,
): Promise<void> {
  for (const { node, ctx } of placesOf(session.ctx, service)) {
    try {
      await work({ ...session, ctx }, node);
    } catch (thrown) {
      if (node !== null) ctx.nodes?.blame(thrown, node);
      throw thrown;
    }
  }
}

/** A sentence with the node that it is about. */
export const onNode = (node: string | null, text: string): string => (node === null ? text : `${node}: ${text}`);
