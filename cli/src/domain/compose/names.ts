import { canonicalJson, sha256 } from "../canonical.js";
import { serviceNames, type InstanceId, type ReleaseId, type ServiceName, type Slot } from "../names.js";
import type { ModelRef } from "../release.js";

/** Places of a service on a host: the two slots a deploy alternates between, and the CPU instance that answers when neither does. */
export const hostSlots = ["a", "b", "cpu"] as const;
export type HostSlot = Slot | "cpu";

/** One place on a host, as a container's name says it. */
export interface HostPlace {
  project: string;
  environment: string;
  service: ServiceName;
  slot: HostSlot;
}

const prefix = "gpuctl";
/** Names of projects and environments hold letters, digits and dashes, so this never stands inside one. */
const separator = "_";

/**
 * Compose project of an environment: `gpuctl_<project>_<environment>`. Two environments never share one, because the separator
 * cannot occur in their names (with a dash, `a-b` of `c` and `a` of `b-c` would). At most 88 characters, which Docker takes.
 */
export function composeProject(project: string, environment: string): string {
  return [prefix, project, environment].join(separator);
}

/** The environment of a Compose project's name, or null when gpuctl did not give it. */
export function parseComposeProject(name: string): { project: string; environment: string } | null {
  const [first, project, environment, ...rest] = name.split(separator);
  if (first !== prefix || !isShortName(project) || !isShortName(environment) || rest.length > 0) return null;
  return { project, environment };
}

/** The Compose service of a place, and its name in the project's network: `embedder-a`. */
export const slotName = (service: ServiceName, slot: HostSlot): string => `${service}-${slot}`;

/** Container of a place: `gpuctl_<project>_<environment>_<service>-<slot>`, at most 101 characters. */
export function containerName({ project, environment, service, slot }: HostPlace): string {
  return [composeProject(project, environment), slotName(service, slot)].join(separator);
}

/** The place a container's name stands for, or null when it is none of ours. Docker's leading slash is understood. */
export function parseContainerName(name: string): HostPlace | null {
  const text = name.replace(/^\//, "");
  const cut = text.lastIndexOf(separator);
  const owner = parseComposeProject(text.slice(0, Math.max(cut, 0)));
  const place = parseSlotName(text.slice(cut + 1));
  return owner === null || place === null ? null : { ...owner, ...place };
}

/** The service and slot of `embedder-a`, or null. */
export function parseSlotName(name: string): { service: ServiceName; slot: HostSlot } | null {
  for (const service of serviceNames)
    for (const slot of hostSlots) if (name === slotName(service, slot)) return { service, slot };
  return null;
}

/** `<service>-<release id that introduced it>-<slot>`, for the CPU instance too. */
export const hostInstanceId = (service: ServiceName, since: ReleaseId, slot: HostSlot): InstanceId =>
  `${service}-${since}-${slot}`;

/**
 * Named volume of one model revision, `gpuctl-model_<readable part>_<hash>`. The hash covers id, revision and manifest, so one
 * volume never holds two models; environments of a host share it.
 */
export function modelVolume({ id, revision, manifest }: Pick<ModelRef, "id" | "revision" | "manifest">): string {
  const readable = id
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .slice(-40)
    .replaceAll(/^-+|-+$/g, "");
  return ["gpuctl-model", readable || "model", sha256(canonicalJson([id, revision, manifest])).slice(0, 16)].join(separator);
}

const isShortName = (text: string | undefined): text is string =>
  text !== undefined && /^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$/.test(text);
