import { hostTable, type HostRow, type HostSeen } from "../../domain/host-table.js";
import { serviceNames } from "../../domain/names.js";
import type { ReleaseRecord } from "../../domain/release.js";
import type { Context, Observation } from "../../ports.js";
import { leftOut } from "./left-out.js";
import { silentNodes } from "./nodes.js";
import { observe } from "./observe.js";

/**
 * What serves on each node after a change; nothing where there is only one place.
 * @param moved  nodes whose traffic was moved, or may have been
 */
export async function hostRows(
  ctx: Context,
  before: ReleaseRecord | null,
  candidate: ReleaseRecord | null,
  moved: ReadonlySet<string>,
): Promise<readonly HostRow[]> {
  const { nodes } = ctx;
  if (nodes === undefined) return [];
  const seen = await observe(ctx).catch(() => null);
  const about = nodes.names.filter(
    (node) => nodes.lost.has(node) || ((nodes.chosen?.includes(node) ?? true) && servicesOn(ctx, node).length > 0),
  );
  return hostTable(
    about.map((node) => hostSeen(ctx, node, seen, moved.has(node))),
    before,
    candidate,
  );
}

function hostSeen(ctx: Context, node: string, seen: Observation | null, moved: boolean): HostSeen {
  const lost = ctx.nodes?.lost.get(node) ?? null;
  const silent = seen === null ? "it could not be looked at" : silentNodes(seen).find((each) => each.node === node)?.because;
  const open = (seen?.instances ?? []).filter(({ nodes = [] }) =>
    nodes.some((there) => there.node === node && there.traffic === "open" && there.process.state === "running"),
  );
  return {
    node,
    moved,
    leftOut: leftOut(ctx).includes(node),
    silent: lost ?? silent ?? null,
    services: servicesOn(ctx, node),
    open: open.map(({ id, release }) => ({ id, release })),
  };
}

const servicesOn = (ctx: Context, node: string) =>
  serviceNames.filter(
    (service) => ctx.config.services[service] !== undefined && ctx.driver.nodesOf?.(service).some((host) => host.node === node),
  );
