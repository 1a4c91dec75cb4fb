import type { ServiceName } from "../../../domain/names.js";
import { serviceNames } from "../../../domain/names.js";
import { observeContainer, type ContainerObservation } from "../../../domain/compose/observe-container.js";
import type { NodeSettings } from "../../../domain/compose/node-settings.js";
import type { Standby } from "../../../domain/standby.js";
import type { HostView } from "./observation.js";

/** What stands behind the slots of every service of a node, wanted or not. Nothing is said while Docker does not answer. */
export function observedStandbys(view: HostView, settings: NodeSettings): readonly Standby[] {
  if (view.silent !== null) return [];
  const seen = view.containers.flatMap((facts) => {
    const gate = view.gates.get(facts.labels["dev.gpuctl.instance"] ?? "") ?? "closed";
    return observeContainer(facts, { gate, bootedAt: view.bootedAt, inflight: null, stopsInMs: null }) ?? [];
  });
  return serviceNames.flatMap((service): readonly Standby[] => {
    const wanted = settings.services.some((each) => each.service === service && each.cpuFallback);
    const there = seen.find((each) => each.service === service && each.slot === "cpu") ?? null;
    if (!wanted && there === null) return [];
    return [{ node: settings.node, service, instance: there?.id ?? null, wanted, state: stateOf(there, service, seen) }];
  });
}

function stateOf(
  standby: ContainerObservation | null,
  service: ServiceName,
  seen: readonly ContainerObservation[],
): Standby["state"] {
  if (standby === null) return "absent";
  if (standby.process.state !== "running") return "ended";
  if (standby.traffic !== "open") return "shut";
  if (!isFit(standby)) return "loading";
  const slots = seen.filter((each) => each.service === service && each.slot !== "cpu");
  return slots.some((each) => each.process.state === "running" && each.traffic === "open" && isFit(each)) ? "ready" : "answers";
}

/** By Docker's own checks, which say nothing in the first seconds of a container without one. */
const isFit = ({ health }: ContainerObservation): boolean => health === "healthy" || health === null;
