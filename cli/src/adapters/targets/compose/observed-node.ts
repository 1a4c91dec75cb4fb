import type { UpstreamState } from "../../../domain/compose/caddy-output.js";
import type { InstanceObservation, Observation } from "../../../ports.js";
import type { CompanionRole } from "../../../domain/compose/render-compose.js";
import type { NodeSettings } from "../../../domain/compose/node-settings.js";
import { instancesOf, type KeptNode } from "./node-plan.js";
import { observedStandbys } from "./observed-standbys.js";
import { companionOf, observedInstances, type HostView } from "./observation.js";

/** In which way what stands before the instances is not what gpuctl.yaml makes of it now. */
export interface FrontDrift {
  /** Which files differ; null when none does. */
  outdated: string | null;
  /** What runs with another configuration of its container. */
  restarts: readonly string[];
  /** Why HTTPS does not answer, a sentence; null where it does or is not wanted. */
  unencrypted: string | null;
}

const asItShould: FrontDrift = { outdated: null, restarts: [], unencrypted: null };

/** What every target reports, from one look at a host. @param kept  what should be there, for when Docker does not answer */
export function observationOf(
  view: HostView,
  upstreams: readonly UpstreamState[] | null,
  settings: NodeSettings,
  kept: KeptNode,
  drift: FrontDrift = asItShould,
): Observation {
  const proxy = companionOf(view, "proxy");
  const bound = proxy?.state === "running";
  const listeners = settings.services.map(({ service, port }) => ({ service, host: settings.bind, port, bound }));
  const instances = view.silent === null ? observedInstances(view, upstreams) : unseen(view, kept);
  return {
    manager: managerOf(view, settings, drift),
    instances,
    listeners,
    standbys: observedStandbys(view, settings),
    unencrypted: drift.unencrypted === null ? [] : [drift.unencrypted],
  };
}

function managerOf(view: HostView, settings: NodeSettings, { outdated, restarts }: FrontDrift): Observation["manager"] {
  const { node } = settings;
  if (view.silent !== null) return { state: "absent", detail: `Docker on ${node} does not answer: ${view.silent}` };
  const roles = [
    ...(settings.services.length === 0 ? [] : (["proxy"] as const)),
    ...(settings.ingress === null ? [] : (["ingress"] as const)),
  ];
  const wrong = roles.flatMap((role) => whyNotRunning(view, role, node) ?? [])[0];
  if (wrong !== undefined) return { state: "absent", detail: wrong };
  const detail = roles.map((role) => `${role} ${companionOf(view, role)?.id.slice(0, 12) ?? ""} on ${node}`).join(", ");
  // Whoever asks it computes what it does not say: its loss is told, and is not that of the proxy.
  const lacks = settings.redis === null ? null : whyNotRunning(view, "redis", node);
  return {
    state: "running",
    detail: detail || `nothing to run on ${node}`,
    ...(outdated === null ? {} : { outdated }),
    ...(restarts.length === 0 ? {} : { restarts }),
    ...(lacks === null ? {} : { lacks }),
  };
}

function whyNotRunning(view: HostView, role: CompanionRole, node: string): string | null {
  const container = companionOf(view, role);
  if (container === null) return `no ${role} on ${node}`;
  return container.state === "running" ? null : `the ${role} on ${node} is ${container.state}`;
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
