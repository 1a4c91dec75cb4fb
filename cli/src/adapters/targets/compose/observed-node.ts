import type { UpstreamState } from "../../../domain/compose/caddy-output.js";
import type { InstanceObservation, Observation } from "../../../ports.js";
import type { NodeSettings } from "../../../domain/compose/node-settings.js";
import { instancesOf, type KeptNode } from "./node-plan.js";
import { observedInstances, proxyOf, type HostView } from "./observation.js";

/** What every target reports, from one look at a host. @param kept  what should be there, for when Docker does not answer */
export function observationOf(
  view: HostView,
  upstreams: readonly UpstreamState[] | null,
  settings: NodeSettings,
  kept: KeptNode,
): Observation {
  const proxy = proxyOf(view);
  const bound = proxy?.state === "running";
  const listeners = settings.services.map(({ service, port }) => ({ service, host: settings.bind, port, bound }));
  const instances = view.silent === null ? observedInstances(view, upstreams) : unseen(view, kept);
  return { manager: managerOf(view, settings), instances, listeners };
}

function managerOf(view: HostView, { node, services }: NodeSettings): Observation["manager"] {
  if (view.silent !== null) return { state: "absent", detail: `Docker on ${node} does not answer: ${view.silent}` };
  const proxy = proxyOf(view);
  if (proxy?.state === "running") return { state: "running", detail: `proxy ${proxy.id.slice(0, 12)} on ${node}` };
  if (services.length === 0) return { state: "running", detail: `no service is to run on ${node}` };
  return { state: "absent", detail: proxy === null ? `no proxy on ${node}` : `the proxy on ${node} is ${proxy.state}` };
}

/** Without Docker nothing runs that a person could rely on; what is known is where it was. */
function unseen(view: HostView, kept: KeptNode): readonly InstanceObservation[] {
  return instancesOf(kept).flatMap(({ id, service, release, slot }) => {
    if (slot === "cpu") return [];
    const process = { state: "exited", code: null, signal: null } as const;
    const traffic = view.gates.get(id) === "open" ? ("open" as const) : ("closed" as const);
    return [{ id, service, release, slot, process, traffic, restarts: 0, inflight: null, stopsInMs: null }];
  });
}
