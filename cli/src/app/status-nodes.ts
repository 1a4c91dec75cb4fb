import { instanceOf } from "../domain/drift.js";
import { endpointsOf } from "../domain/endpoints.js";
import { inOrder } from "../domain/fingerprint.js";
import type { InstanceId, ReleaseId, ServiceName } from "../domain/names.js";
import { latestSummaries, type NodeSummary } from "../domain/preflight/node-summary.js";
import { nodeNames } from "../domain/preflight/needs-of.js";
import type { Context, InstanceObservation, NodeInstance, RecordCopies } from "../ports.js";
import type { Survey } from "./lifecycle/survey.js";

/** One node of an environment that has some. */
export interface NodeStatus {
  node: string;
  /** Why nothing was seen of it now; null when it was looked at. */
  silent: string | null;
  /** Services of the current release that are to run there. */
  services: readonly ServiceOnNode[];
  /** How its copy of the release records stands against those of all nodes. */
  records: RecordCopies["state"];
  /** The current release, when it passed this node by and it is not level with the others yet. */
  leftOutOf: ReleaseId | null;
  /** Instances that answer public traffic there. */
  open: readonly InstanceId[];
  /** What it was when it was looked at last: now, else by the record of the current release; null when it never was. */
  seen: NodeSummary | null;
}

export interface ServiceOnNode {
  service: ServiceName;
  instance: InstanceId;
  /** Null when the instance is not there. */
  process: NodeInstance["process"] | null;
  traffic: NodeInstance["traffic"] | null;
  restarts: number | null;
  address: string;
}

/** Every node with what runs, what it keeps, and what was found when it was looked at last. None on a target with one place. */
export function nodesStatus(ctx: Pick<Context, "config" | "nodesSeen">, seen: Survey): readonly NodeStatus[] {
  const { config } = ctx;
  const { stored, current } = seen;
  const { observation } = seen.facts;
  const summaries = latestSummaries(ctx.nodesSeen?.() ?? [], current?.nodes ?? []);
  return nodeNames(config).map((node): NodeStatus => {
    const silent = observation.nodes?.find((each) => each.node === node)?.silent ?? null;
    const records = stored.copies?.find(({ host }) => host === node)?.state ?? "whole";
    const services = servicesOn(config, node, seen);
    const level = silent === null && records === "whole" && services.every(({ traffic }) => traffic === "open");
    return {
      node,
      silent,
      services,
      records,
      leftOutOf: !level && current?.leftOut?.includes(node) === true ? current.id : null,
      open: observation.instances.filter((instance) => opensOn(instance, node)).map(({ id }) => id),
      seen: summaries.find((each) => each.node === node) ?? null,
    };
  });
}

/** What is to run on a node by the current release, and whether it does. */
function servicesOn(config: Context["config"], node: string, { current, facts }: Survey): readonly ServiceOnNode[] {
  return inOrder(current?.services ?? {}).flatMap(([service, release]): readonly ServiceOnNode[] => {
    const endpoint = endpointsOf(config, service, release.spec.listen).find((each) => each.node === node);
    if (endpoint === undefined) return [];
    const instance = instanceOf(release);
    const there = facts.observation.instances.find(({ id }) => id === instance)?.nodes?.find((each) => each.node === node);
    const { process = null, traffic = null, restarts = null } = there ?? {};
    return [{ service, instance, process, traffic, restarts, address: endpoint.url }];
  });
}

const opensOn = ({ nodes = [] }: InstanceObservation, name: string): boolean =>
  nodes.some(({ node, process, traffic }) => node === name && process.state === "running" && traffic === "open");
