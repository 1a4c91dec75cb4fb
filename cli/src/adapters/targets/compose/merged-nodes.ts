import type { TargetUnreachable } from "../../../domain/errors.js";
import type { InstanceId, ServiceName } from "../../../domain/names.js";
import type {
  InstanceHealth,
  InstanceObservation,
  InstanceProcess,
  NodeInstance,
  Observation,
  PartialInstance,
} from "../../../ports.js";

/** What one host showed, or why nothing was seen there. */
export type Seen =
  { node: string; observation: Observation; silent: null } | { node: string; observation: null; silent: TargetUnreachable };

/** What all hosts show as one target. @param nodesOf  nodes that are to run a service */
export function mergeObservations(seen: readonly Seen[], nodesOf: (service: ServiceName) => readonly string[]): Observation {
  const all = seen.flatMap(({ node, observation }) => (observation?.instances ?? []).map((instance) => ({ node, instance })));
  const ids = [...new Set(all.map(({ instance }) => instance.id))];
  // About a host that says nothing, nothing is concluded.
  const answering = seen.filter(({ silent }) => silent === null).map(({ node }) => node);
  const expected = (service: ServiceName): readonly string[] => nodesOf(service).filter((node) => answering.includes(node));
  return {
    manager: mergeManagers(seen),
    instances: ids.flatMap((id) => mergeInstance(id, all, expected)),
    listeners: seen.flatMap(({ observation }) => observation?.listeners ?? []),
    nodes: seen.map(({ node, silent }) => ({ node, silent: silent === null ? null : (silent.because ?? silent.message) })),
    standbys: seen.flatMap(({ observation }) => observation?.standbys ?? []),
    unencrypted: seen.flatMap(({ observation }) => observation?.unencrypted ?? []),
  };
}

function mergeManagers(seen: readonly Seen[]): Observation["manager"] {
  const said = seen.map(({ node, observation, silent }) => {
    if (observation !== null) return observation.manager;
    return { state: "absent", detail: `${node} cannot be reached: ${silent.because ?? silent.message}` } as const;
  });
  const absent = said.filter(({ state }) => state === "absent");
  const detail = (absent.length > 0 ? absent : said).map((each) => each.detail).join("; ");
  if (absent.length > 0) return { state: "absent", detail };
  const running = said.flatMap((each) => (each.state === "running" ? [each] : []));
  const outdated = running.flatMap((each) => each.outdated ?? []).join("; ");
  const restarts = running.flatMap((each) => each.restarts ?? []);
  const lacks = running.flatMap((each) => each.lacks ?? []).join("; ");
  return {
    state: "running",
    detail,
    ...(outdated === "" ? {} : { outdated }),
    ...(restarts.length === 0 ? {} : { restarts }),
    ...(lacks === "" ? {} : { lacks }),
  };
}

interface OnNode {
  node: string;
  instance: InstanceObservation;
}

/** It counts as running where it runs anywhere: what does not hold on every node of its service is said beside it. */
function mergeInstance(
  id: InstanceId,
  all: readonly OnNode[],
  nodesOf: (service: ServiceName) => readonly string[],
): readonly InstanceObservation[] {
  const mine = all.filter(({ instance }) => instance.id === id);
  const [first] = mine;
  if (first === undefined) return [];
  const best = [...mine].sort((a, b) => rank(a.instance.process) - rank(b.instance.process))[0]?.instance ?? first.instance;
  const running = mine.filter(({ instance }) => instance.process.state === "running");
  const open = running.filter(({ instance }) => instance.traffic === "open");
  const partial = partialOf(nodesOf(first.instance.service), running, open);
  const stops = running.map(({ instance }) => instance.stopsInMs);
  const counts = running.map(({ instance }) => instance.inflight);
  return [
    {
      ...best,
      traffic: open.length > 0 ? "open" : best.traffic,
      restarts: Math.max(...mine.map(({ instance }) => instance.restarts)),
      inflight: counts.includes(null) ? null : counts.reduce<number>((sum, count) => sum + (count ?? 0), 0),
      stopsInMs: stops.length === 0 || stops.includes(null) ? null : Math.max(...stops.map((each) => each ?? 0)),
      ...(partial === null ? {} : { partial }),
      nodes: mine.map(({ node, instance: { process, traffic, restarts } }): NodeInstance => ({
        node,
        process,
        traffic,
        restarts,
      })),
    },
  ];
}

function partialOf(expected: readonly string[], running: readonly OnNode[], open: readonly OnNode[]): PartialInstance | null {
  if (running.length === 0) return null;
  const without = (some: readonly OnNode[]): readonly string[] =>
    expected.filter((node) => !some.some((each) => each.node === node));
  const missing = without(running);
  const shut = open.length === 0 ? [] : without(open).filter((node) => !missing.includes(node));
  const extra = running.map(({ node }) => node).filter((node) => !expected.includes(node));
  return missing.length + shut.length + extra.length === 0 ? null : { missing, shut, extra };
}

const order: readonly InstanceProcess["state"][] = ["running", "exited", "stopped-by-reboot", "stopped"];
const rank = ({ state }: InstanceProcess): number => order.indexOf(state);

const severity: readonly InstanceHealth["status"][] = ["failed", "loading", "degraded", "healthy"];

/** The worst of all nodes, with the node it is on where they differ. */
export function mergeHealth(answers: readonly { node: string; health: InstanceHealth }[]): InstanceHealth {
  const [worst] = [...answers].sort((a, b) => severity.indexOf(a.health.status) - severity.indexOf(b.health.status));
  if (worst === undefined) return { status: "failed", device: null, model: null, fallback: false, reason: "no node runs it" };
  const { node, health } = worst;
  const devices = new Set(answers.map((each) => each.health.device));
  if (answers.length === 1 || (health.status === "healthy" && devices.size === 1)) return health;
  const differs =
    devices.size === 1 ? null : answers.map((each) => `${each.node} on ${each.health.device ?? "no device"}`).join(", ");
  const why = [health.status === "healthy" ? null : `${node}: ${health.reason ?? health.status}`, differs];
  return { ...health, reason: why.filter((each) => each !== null).join("; ") };
}
