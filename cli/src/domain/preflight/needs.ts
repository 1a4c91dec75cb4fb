import type { Device, ProofLevel } from "../names.js";
import { blocker, warning } from "../doctor/finding.js";
import type { Container, NodeFacts } from "./facts.js";

/** What an environment wants of one node. */
export interface NodeNeeds {
  node: string;
  services: readonly ServiceNeeds[];
  /** Address the public ports are published on. */
  bind: string;
  /** Networks that may reach the public ports; null when the bind address decides. */
  allow: readonly string[] | null;
  /** Whether the public ports speak TLS. */
  tls: boolean;
  /** Bytes of images that the node does not have yet, unpacked; null when nobody knows. */
  imageBytes: number | null;
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
  /** Whether it asks for a key. */
  keys: boolean;
}

/** Whether a service is meant to have a GPU of this node; `auto` has to be settled first. */
export const wantsGpu = ({ device }: ServiceNeeds): boolean => device.require === "cuda" || device.prefer === "cuda";

/** `auto` is a GPU where the node has one, working or not, and else the CPU. */
export function settleDevices(needs: NodeNeeds, { smi, driver }: Pick<NodeFacts, "smi" | "driver">): NodeNeeds {
  const card = smi.state === "gpus" || (driver.pciDevices.seen && driver.pciDevices.value > 0);
  const services = needs.services.map((service) =>
    service.device.prefer === "auto"
      ? { ...service, device: { ...service.device, prefer: card ? "cuda" : "cpu" } as const }
      : service,
  );
  return { ...needs, services };
}

/** How much a GPU that containers cannot have matters: it stops those who require one, others run on the CPU. */
export const levelFor = (services: readonly ServiceNeeds[]): typeof blocker =>
  services.some(({ device }) => device.require === "cuda") ? blocker : warning;

export const names = (services: readonly ServiceNeeds[]): string => services.map(({ name }) => name).join(" and ");

/** Whether a container is this environment's own. */
export function isOwn({ labels }: Pick<Container, "labels">, { own }: Pick<NodeNeeds, "own">): boolean {
  return (
    own.length > 0 && own.every((filter) => Object.entries(labels).some(([key, value]) => filter === `label=${key}=${value}`))
  );
}
