import type { InventoryNode } from "../inventory.js";
import type { Device, ProofLevel } from "../names.js";
import { blocker, warning } from "../doctor/finding.js";
import type { Container, NodeFacts } from "./facts.js";

/** What an environment wants of one node. */
export interface NodeNeeds {
  node: string;
  services: readonly ServiceNeeds[];
  /** What is published beside the services: the ingress, and where ACME's challenge is answered. */
  entrances: readonly Entrance[];
  /** What the inventory says of this node: its GPUs, and the ports that its firewalls know; absent where no inventory has it. */
  promised?: { gpus: InventoryNode["gpus"]; ports: readonly number[]; by: string };
  /** Address the public ports are published on. */
  bind: string;
  /** Networks that may reach the public ports; null when the bind address decides. */
  allow: readonly string[] | null;
  /** Whether an ingress is in front of the environment: TLS ends there, and what it asks the nodes goes unencrypted. */
  ingress: boolean;
  /** Whether the ports of the services speak TLS. */
  tls: boolean;
  /** Bytes that images which the node does not have yet take on Docker's disk until they are there; null when nobody knows. */
  imageBytes: number | null;
  /** Bytes that lie in the data directory while images are sent from here; 0 with a registry, null when nobody knows. */
  sentBytes: number | null;
  /** Bytes of model files that the node does not have yet; null when nobody knows. */
  modelBytes: number | null;
  dataDirectory: string;
  /**
   * Filters by which this environment's own containers are known, all of them, as `docker ps --filter` takes them
   * (`label=<key>=<value>`): their ports are not taken, and their memory comes back.
   */
  own: readonly string[];
}

export interface ServiceNeeds {
  name: string;
  port: number;
  device: { prefer: Device | "auto"; require: Device | null; proof: ProofLevel };
  /** UUID of the reserved GPU or MIG instance; null for any. */
  gpu: string | null;
  vramMiB: number | null;
  /** Bytes of the models that it loads, 0 for none; null when nobody knows. */
  modelBytes: number | null;
  /** Whether a second instance stands behind it on the CPU (`fallback: cpu`), with the same models. */
  cpuFallback: boolean;
  /** Whether it asks for a key. */
  keys: boolean;
}

/** A published port that is no service's. */
export interface Entrance {
  /** `challenge`: for everybody by its nature, and nothing but the challenge is behind it. */
  name: "ingress" | "challenge";
  port: number;
  /** Its port in the container. */
  inside: number;
  tls: boolean;
  /** Whether everything behind it asks for a key. */
  keys: boolean;
}

/** Whether a service is meant to have a GPU of this node; `auto` has to be settled first. */
export const wantsGpu = ({ device }: ServiceNeeds): boolean => device.require === "cuda" || device.prefer === "cuda";

/** Whether the node has a GPU, working or not: by its tool, its driver, or its bus, which shows none on WSL2 and in some clouds. */
export const hasCard = ({ smi, driver }: Pick<NodeFacts, "smi" | "driver">): boolean =>
  (smi.state !== "absent" && smi.state !== "no-devices") ||
  driver.loaded.seen ||
  (driver.pciDevices.seen && driver.pciDevices.value > 0);

/** `auto` is a GPU where the node has one, and else the CPU; always that for the index, whose GPU copy nobody measured yet. */
export function settleDevices(needs: NodeNeeds, facts: Pick<NodeFacts, "smi" | "driver">): NodeNeeds {
  const card = hasCard(facts);
  const services = needs.services.map((service) =>
    service.device.prefer === "auto"
      ? { ...service, device: { ...service.device, prefer: card && service.name !== "index" ? "cuda" : "cpu" } as const }
      : service,
  );
  return { ...needs, services };
}

/** Makes a finding of one level. */
export type Raise = typeof blocker;

/** How much a GPU that containers cannot have matters: it stops those who require one, others run on the CPU. */
export const levelFor = (services: readonly ServiceNeeds[]): Raise =>
  services.some(({ device }) => device.require === "cuda") ? blocker : warning;

export const names = (services: readonly ServiceNeeds[]): string => services.map(({ name }) => name).join(" and ");

/** Whether a container is this environment's own. */
export function isOwn({ labels }: Pick<Container, "labels">, { own }: Pick<NodeNeeds, "own">): boolean {
  return (
    own.length > 0 && own.every((filter) => Object.entries(labels).some(([key, value]) => filter === `label=${key}=${value}`))
  );
}
