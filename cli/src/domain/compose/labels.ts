import type { InstanceId, ReleaseId, Sha256 } from "../names.js";
import { serviceNames, type ServiceName } from "../names.js";
import { hostSlots, type HostSlot } from "./names.js";
import type { ComposeNode, HostInstance } from "./node.js";

/** What a container says of itself, for whoever finds it without a record. */
export interface InstanceLabels {
  project: string;
  environment: string;
  node: string;
  service: ServiceName;
  instance: InstanceId;
  release: ReleaseId;
  slot: HostSlot;
  /** Hash of the spec it was made from: one that differs from the record's is drift. */
  fingerprint: Sha256;
}

const prefix = "dev.gpuctl.";
const keys = ["project", "environment", "node", "service", "instance", "release", "slot", "fingerprint"] as const;

/** Labels of an instance's container. No value can hold a comma: `docker ps` joins labels with commas. */
export function labelsOf(node: ComposeNode, instance: HostInstance): Record<string, string> {
  const { service, id, release, slot, fingerprint } = instance;
  const { project, environment } = node;
  const said: InstanceLabels = { project, environment, node: node.node, service, instance: id, release, slot, fingerprint };
  return Object.fromEntries(keys.map((key) => [`${prefix}${key}`, said[key]]));
}

/** Labels of what stands beside the instances. */
export function companionLabels(node: ComposeNode, role: string): Record<string, string> {
  const { project, environment } = node;
  const said = { project, environment, node: node.node, role };
  return Object.fromEntries(Object.entries(said).map(([key, value]) => [`${prefix}${key}`, value]));
}

/** Hash of what a companion's container was made from. */
export const configLabel = `${prefix}config`;

/** The instance a container belongs to by its labels; null for a container that is none of ours or says too little. */
export function readLabels(labels: Readonly<Record<string, unknown>>): InstanceLabels | null {
  const of = (key: (typeof keys)[number]): string | null => {
    const value = labels[`${prefix}${key}`];
    return typeof value === "string" && value !== "" ? value : null;
  };
  const [project, environment, node, instance, fingerprint] = [
    of("project"),
    of("environment"),
    of("node"),
    of("instance"),
    of("fingerprint"),
  ];
  const service = serviceNames.find((name) => name === of("service"));
  const slot = hostSlots.find((name) => name === of("slot"));
  const release = of("release");
  if (project === null || environment === null || node === null || instance === null || fingerprint === null) return null;
  if (service === undefined || slot === undefined || release === null || !isReleaseId(release)) return null;
  return { project, environment, node, service, instance, release, slot, fingerprint };
}

const isReleaseId = (text: string): text is ReleaseId => /^r\d+-[0-9a-f]+$/.test(text);

/** What finds every container of an environment: `docker ps --filter label=…`. */
export const ownershipFilters = (project: string, environment: string): readonly string[] => [
  `label=${prefix}project=${project}`,
  `label=${prefix}environment=${environment}`,
];
