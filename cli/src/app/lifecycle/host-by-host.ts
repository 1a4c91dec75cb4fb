import type { PlannedRelease } from "../../domain/plan.js";
import type { RolloutOperation } from "../../domain/operations.js";
import type { Context } from "../../ports.js";
import { operationsOf } from "./switch.js";

/** What of a release is done on a few of the hosts before anything is done on the next ones. */
export interface HostPart {
  nodes: readonly string[];
  /** Sees and changes these hosts alone. */
  ctx: Context;
  /** The operations on services that run there. */
  release: PlannedRelease;
}

/**
 * Where old instances have to stop before new ones start, a release goes host by host (`--parallel N` at a time), so that the other
 * hosts answer meanwhile. Null where it goes everywhere at once: nothing has to stop first, or one step reaches all hosts, or the index
 * changes to other vectors, which embedders and index have to do together.
 */
export function hostByHost(ctx: Context, release: PlannedRelease): readonly HostPart[] | null {
  const { nodes, driver } = ctx;
  if (nodes === undefined || driver.only === undefined) return null;
  if (operationsOf(release, "stop-first").length === 0 || operationsOf(release, "build-generation").length > 0) return null;
  const concerned = nodes.names.filter((node) =>
    operationsOf(release, "open").some(({ service }) => driver.nodesOf?.(service).some((host) => host.node === node)),
  );
  if (concerned.length <= nodes.parallel) return null;
  const parts: HostPart[] = [];
  for (let next = 0; next < concerned.length; next += nodes.parallel)
    parts.push(partOf(ctx, release, concerned.slice(next, next + nodes.parallel)));
  return parts;
}

/** Some of the hosts, with what a release does there. */
export function partOf(ctx: Context, release: PlannedRelease, nodes: readonly string[]): HostPart {
  const driver = ctx.driver.only?.(nodes) ?? ctx.driver;
  const opens = new Set(operationsOf(release, "open").map(({ service }) => service));
  const here = ({ service }: RolloutOperation): boolean => opens.has(service) && (driver.nodesOf?.(service).length ?? 1) > 0;
  const isHere = (place: string | null): boolean =>
    place === null || nodes.some((node) => place === node || place.startsWith(`${node}, `));
  return {
    nodes,
    ctx: { ...ctx, driver },
    release: {
      ...release,
      operations: release.operations.filter(here),
      loads: release.loads.filter(({ place }) => isHere(place)),
    },
  };
}

/** What is left to do everywhere once every part is done: services that end. */
export function withoutOpened(release: PlannedRelease): PlannedRelease {
  const opens = new Set(operationsOf(release, "open").map(({ service }) => service));
  return { ...release, operations: release.operations.filter(({ service }) => !opens.has(service)) };
}

/** What of several hosts answers while old instances are stopped first, in words; null where nothing is, or there is one host only. */
export function whatAnswersMeanwhile(ctx: Context, release: PlannedRelease): string | null {
  const stopped = operationsOf(release, "stop-first");
  if (stopped.length === 0 || (ctx.nodes?.names.length ?? 1) < 2) return null;
  const parts = hostByHost(ctx, release);
  if (parts !== null)
    return `host by host: ${parts.map(({ nodes }) => nodes.join(" and ")).join(", then ")}, and the others answer meanwhile`;
  const dark = stopped.map(({ service }) => {
    const hosts = (ctx.driver.nodesOf?.(service) ?? []).map(({ node }) => node);
    return `${service} answers nowhere meanwhile: ${hosts.join(" and ")} ${hosts.length === 1 ? "is its only host" : "stop together"}`;
  });
  return dark.join("; ");
}
