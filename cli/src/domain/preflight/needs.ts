import type { Device, ProofLevel } from "../names.js";

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
  /** Label and value by which this environment's own containers are known: their ports are not taken, and their memory comes back. */
  own: { label: string; value: string };
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

/** Whether a service is meant to have a GPU of this node. */
export const wantsGpu = ({ device }: ServiceNeeds): boolean => device.require === "cuda" || device.prefer === "cuda";

export const names = (services: readonly ServiceNeeds[]): string => services.map(({ name }) => name).join(" and ");
