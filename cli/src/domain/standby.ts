import { hostInstanceId } from "./compose/names.js";
import { inOrder } from "./fingerprint.js";
import { instanceId, type ReleaseRecord, type ServiceRelease } from "./release.js";
import type { InstanceId, ServiceName } from "./names.js";
import type { PlannedInstance } from "./operations.js";

/**
 * How what stands behind the slots of a service is. `ready`: it would answer at once. `answers`: it does, because no slot does.
 * `loading`: it runs and cannot answer yet. `shut`: it runs and may not, because another release serves. `ended`, `absent`: it is not there.
 */
export type StandbyState = "ready" | "answers" | "loading" | "shut" | "ended" | "absent";

/** What stands behind the slots of a service on one node (`fallback: cpu`), or should. */
export interface Standby {
  node: string;
  service: ServiceName;
  /** Null when there is none. */
  instance: InstanceId | null;
  /** Whether gpuctl.yaml wants one. */
  wanted: boolean;
  state: StandbyState;
}

/** Puts behind a service what answers in its place; without an instance, takes away what stands there. */
export interface StandByOperation {
  kind: "stand-by";
  service: ServiceName;
  instance: PlannedInstance | null;
  because: string;
}

/**
 * What must be done so that behind every service of a release stands what gpuctl.yaml wants there, made from the release's own spec.
 * @param leave  services that a rollout is about to replace: theirs is renewed when that is good
 */
export function standbyOperations(
  current: Pick<ReleaseRecord, "services"> | null,
  standbys: readonly Standby[],
  leave: ReadonlySet<ServiceName> = new Set(),
): readonly StandByOperation[] {
  if (current === null) return [];
  const served = inOrder(current.services).map(([service]) => service);
  const services = [...served, ...new Set(standbys.map(({ service }) => service))];
  return [...new Set(services)].flatMap((service): readonly StandByOperation[] => {
    const release = current.services[service];
    const there = standbys.filter((standby) => standby.service === service && !leave.has(service));
    const wrong = there.flatMap((standby) => whatIsWrong(standby, release) ?? []);
    if (wrong.length === 0) return [];
    const instance = release !== undefined && there.some(({ wanted }) => wanted) ? planned(release) : null;
    return [{ kind: "stand-by", service, instance, because: [...new Set(wrong)].join(", ") }];
  });
}

function planned({ spec, since, slot }: ServiceRelease): PlannedInstance {
  const { service } = spec;
  return { id: instanceId(service, since, slot), service, release: since, slot, spec };
}

function whatIsWrong({ node, service, instance, wanted, state }: Standby, release: ServiceRelease | undefined): string | null {
  if (!wanted || release === undefined) return instance === null ? null : `${instance} is no longer wanted on ${node}`;
  const right = hostInstanceId(service, release.since, "cpu");
  if (state === "absent") return `there is none on ${node}`;
  if (instance !== right) return `${instance ?? "nothing"} on ${node} is of another release`;
  if (state === "ended") return `${right} has ended on ${node}`;
  return state === "shut" ? `${right} takes no requests on ${node}` : null;
}

/** The line of a plan. */
export function standByLine({ service, instance, because }: StandByOperation): string {
  const what =
    instance === null ? `nothing behind ${service}` : `${hostInstanceId(service, instance.release, "cpu")} behind ${service}`;
  return `standby   ${what} (${because})`;
}

/** A person's words for one that is wanted or there; null for none. */
export function standbyText({ node, service, instance, wanted, state }: Standby): string | null {
  if (!wanted && instance === null) return null;
  const where = `${service} on ${node}`;
  const who = instance ?? "the CPU instance";
  switch (state) {
    case "ready":
      return `${where}: ${who} stands ready on the CPU`;
    case "answers":
      return `${where}: ${who} answers on the CPU, because no other instance does`;
    case "loading":
      return `${where}: ${who} is loading`;
    case "shut":
      return `${where}: ${who} takes no requests, because it is of another release than the one that serves`;
    case "ended":
      return `${where}: ${who} has ended`;
    case "absent":
      return `${where}: the CPU instance is not there`;
  }
}
