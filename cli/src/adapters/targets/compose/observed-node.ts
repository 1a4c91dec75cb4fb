import type { UpstreamState } from "../../../domain/compose/caddy-output.js";
import type { InstanceObservation, Observation } from "../../../ports.js";
import type { NodeSettings } from "../../../domain/compose/node-settings.js";
import { instancesOf, type KeptNode } from "./node-plan.js";
import { observedStandbys } from "./observed-standbys.js";
import { observedInstances, proxyOf, type HostView } from "./observation.js";

/** In which way what stands before the instances is not what gpuctl.yaml makes of it now. */
export interface FrontDrift {
  /** Which files differ; null when none does. */
  outdated: string | null;
  /** What runs with another configuration of its container. */
  restarts: readonly string[];
}

const asItShould: FrontDrift = { outdated: null, restarts: [] };

/** What every target reports, from one look at a host. @param kept  what should be there, for when Docker does not answer */
export function observationOf(
  view: HostView,
  upstreams: readonly UpstreamState[] | null,
  settings: NodeSettings,
  kept: KeptNode,
  drift: FrontDrift = asItShould,
): Observation {
  const proxy = proxyOf(view);
  const bound = proxy?.state === "running";
  const listeners = settings.services.map(({ service, port }) => ({ service, host: settings.bind, port, bound }));
  const instances = view.silent === null ? observedInstances(view, upstreams) : unseen(view, kept);
  return { manager: managerOf(view, settings, drift), instances, listeners, standbys: observedStandbys(view, settings) };
}

function managerOf(view: HostView, settings: NodeSettings, { outdated, restarts }: FrontDrift): Observation["manager"] {
  const { node } = settings;
  if (view.silent !== null) return { state: "absent", detail: `Docker on ${node} does not answer: ${view.silent}` };
  const roles = [
    ...(settings.services.length === 0 ? [] : (["proxy"] as const)),
    ...(settings.ingress === null ? [] : (["ingress"] as const)),
  ];
  const found = roles.map((role) => ({ role, container: proxyOf(view, role) }));
  const wrong = found.find(({ container }) => container?.state !== "running");
  if (wrong !== undefined) {
    const { role, container } = wrong;
    return {
      state: "absent",
      detail: container === null ? `no ${role} on ${node}` : `the ${role} on ${node} is ${container.state}`,
    };
  }
  const detail = found.map(({ role, container }) => `${role} ${container?.id.slice(0, 12) ?? ""} on ${node}`).join(", ");
  return {
    state: "running",
    detail: detail || `nothing to run on ${node}`,
    ...(outdated === null ? {} : { outdated }),
    ...(restarts.length === 0 ? {} : { restarts }),
  };
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
