import type { InstanceId, ManagerName, ReleaseId, ServiceName } from "./names.js";
import { inOrder, type PerService } from "./fingerprint.js";
import { restartText, type DriftOperation } from "./operations.js";
import { standbyOperations, type Standby } from "./standby.js";
import { instanceId, type ReleaseRecord, type ServiceRelease } from "./release.js";

/** An instance as the target reports it, reduced to what planning needs. */
export interface ObservedInstance {
  id: InstanceId;
  service: ServiceName;
  release: ReleaseId;
  process: "running" | "exited" | "stopped" | "stopped-by-reboot";
  traffic: "open" | "paused" | "closed";
  /** A person's words for why it does not run. */
  ended: string | null;
  stopsInMs: number | null;
  /** On several nodes: where it does not run, and where it runs without answering, though it does elsewhere; and where it should not run. */
  partial?: { missing: readonly string[]; shut: readonly string[]; extra: readonly string[] };
}

/** What was found on the target. `null` means that it could not be asked, and nothing is concluded from that. */
export interface Observed {
  managerRuns: boolean;
  /** What people call it; the keeper unless it is said. */
  manager?: ManagerName;
  /** Why it runs with other settings than those of gpuctl.yaml; absent when it does not. */
  managerOutdated?: string;
  /** What of it has to be made anew to take them over, such as `proxy of gpu-1`; absent when nothing has. */
  managerRestarts?: readonly string[];
  /** What should run beside the instances and does not; absent when nothing is missing. */
  managerLacks?: string;
  instances: readonly ObservedInstance[];
  /** The index instance that holds the writer lock; `holder` is null when every running one said no. Null when one did not say. */
  writer: { holder: InstanceId | null } | null;
  /** Services of the current release whose staged files do not verify. */
  unstaged: readonly ServiceName[];
  /** On several nodes: services that none of those that are looked at is to run. */
  elsewhere?: readonly ServiceName[];
  /** On targets that have such: what stands behind the slots of services. */
  standbys?: readonly Standby[];
}

/** The instance that runs a service of a release. */
export function instanceOf(service: ServiceRelease): InstanceId {
  return instanceId(service.spec.service, service.since, service.slot);
}

/**
 * What must be done so that exactly the current release serves, in an order that opens before it stops.
 * @param current  the release that should serve; null before the first good one
 * @param known    instances of kept good releases: paused ones may stay as warm predecessors
 * @param leave    services that a rollout is about to replace: not worth restarting
 */
export function driftOperations(
  current: ReleaseRecord | null,
  observed: Observed,
  known: ReadonlySet<InstanceId>,
  leave: ReadonlySet<ServiceName> = new Set(),
): readonly DriftOperation[] {
  const managerNeeded = leave.size > 0;
  const services: PerService<ServiceRelease> = current?.services ?? {};
  const wanted = inOrder(services);
  const ours = new Set(wanted.map(([, service]) => instanceOf(service)));
  const restored = wanted.flatMap(([service, release]) => restoreService(service, release, observed, leave));
  const rest = observed.instances.filter((instance) => !ours.has(instance.id)).flatMap((instance) => sortOut(instance, known));
  const needed = managerNeeded || wanted.length > 0 || rest.length > 0;
  const manager = observed.managerRuns ? toldAgain(observed, wanted.length > 0, managerNeeded) : needed ? [absent(observed)] : [];
  return [...manager, ...restored, ...rest, ...standbyOperations(current, observed.standbys ?? [], leave)];
}

const calledBy = ({ manager }: Observed): { manager?: ManagerName } => (manager === undefined ? {} : { manager });

const absent = (observed: Observed): DriftOperation => ({
  kind: "ensure-manager",
  ...calledBy(observed),
  because: "it does not answer",
});

/** A rollout tells the manager its settings anyway; one that has to be made anew for that is worth a line of its own. */
function toldAgain(observed: Observed, serves: boolean, rollout: boolean): readonly DriftOperation[] {
  const { managerOutdated: outdated, managerRestarts: restarts = [], managerLacks: lacks } = observed;
  if (!serves) return [];
  const why = [outdated ?? [], lacks ?? []].flat();
  const told = { kind: "ensure-manager", ...calledBy(observed), runs: true } as const;
  if (restarts.length > 0) return [{ ...told, because: [...why, restartText(restarts)].join("; "), restarts }];
  if (why.length === 0 || rollout) return [];
  return [{ ...told, because: why.join("; "), ...(outdated === undefined ? { beside: true } : {}) }];
}

function restoreService(
  service: ServiceName,
  release: ServiceRelease,
  observed: Observed,
  leave: ReadonlySet<ServiceName>,
): readonly DriftOperation[] {
  const id = instanceOf(release);
  const seen = observed.instances.find((instance) => instance.id === id);
  const withdrawn = withdraw(service, seen);
  if (observed.elsewhere?.includes(service) === true) return withdrawn;
  return [...restoreHere(service, release, seen, observed, leave), ...withdrawn];
}

/** It was to run on more nodes once. Where it is to run comes first: somebody has to answer. */
function withdraw(service: ServiceName, seen: ObservedInstance | undefined): readonly DriftOperation[] {
  const nodes = seen?.partial?.extra ?? [];
  if (seen === undefined || nodes.length === 0) return [];
  return [{ kind: "withdraw", service, id: seen.id, nodes, because: "its service is not to run there any more" }];
}

function restoreHere(
  service: ServiceName,
  release: ServiceRelease,
  seen: ObservedInstance | undefined,
  observed: Observed,
  leave: ReadonlySet<ServiceName>,
): readonly DriftOperation[] {
  const id = instanceOf(release);
  const operations: DriftOperation[] = [];
  if (observed.unstaged.includes(service) && !leave.has(service)) {
    operations.push({ kind: "restage", service, spec: release.spec, because: "its staged files are missing or were edited" });
  }
  const missing = seen?.partial?.missing ?? [];
  if (seen?.process !== "running" || missing.length > 0) {
    if (leave.has(service)) return operations;
    const instance = { id, service, release: release.since, slot: release.slot, spec: release.spec };
    return [...operations, { kind: "restart", service, instance, because: whyNotRunning(seen, missing) }];
  }
  if (service === "index" && observed.writer !== null && observed.writer.holder !== id) {
    const from = observed.writer.holder;
    const because = from === null ? "no instance writes" : "the current release writes";
    operations.push({ kind: "move-writer", service, from, to: id, because });
  }
  const shut = seen.partial?.shut ?? [];
  if (seen.traffic !== "open" || shut.length > 0) {
    const because =
      shut.length > 0 ? `it does not answer on ${shut.join(", ")}` : `${seen.traffic}, though it is the current release`;
    operations.push({ kind: "reopen", service, id, because });
  }
  return operations;
}

function whyNotRunning(seen: ObservedInstance | undefined, missing: readonly string[]): string {
  if (missing.length > 0) return `it does not run on ${missing.join(", ")}`;
  if (seen === undefined) return "it is not there";
  return seen.ended ?? (seen.process === "stopped-by-reboot" ? "stopped by reboot" : seen.process);
}

/** Instances that are not the current release's: warm predecessors stay, predecessors that still answer retire, strangers go. */
function sortOut(instance: ObservedInstance, known: ReadonlySet<InstanceId>): readonly DriftOperation[] {
  const { id, service, traffic } = instance;
  const running = instance.process === "running";
  const open = traffic === "open";
  if (!running && !(open && instance.process === "exited")) return [];
  // Told when to stop, it was a good release's; retention may have let go of its record since.
  if (running && traffic === "paused" && instance.stopsInMs !== null) return [];
  if (!known.has(id) || !running || traffic === "closed") {
    const because = known.has(id) ? "left over from an unfinished change" : "no kept release runs it";
    return [{ kind: "discard", service, id, open, because }];
  }
  if (open) return [{ kind: "retire", service, id, open, because: "another release is the current one" }];
  return [{ kind: "retire", service, id, open, because: "warm without an end" }];
}
