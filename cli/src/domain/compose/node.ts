import type { InstanceId, ReleaseId, ServiceName, Sha256 } from "../names.js";
import type { ServiceSpec } from "../release.js";
import type { MiB, Milliseconds } from "../units.js";
import type { HostSlot } from "./names.js";

/** One container that shall be there: what runs in which place, and the parts of it that were found on this node. */
export interface HostInstance {
  id: InstanceId;
  service: ServiceName;
  /** Release that introduced the spec; its secrets are mounted. */
  release: ReleaseId;
  slot: HostSlot;
  spec: ServiceSpec;
  fingerprint: Sha256;
  /** `name@sha256:<64 hex>`, or `sha256:<64 hex>` of an image that was loaded without a registry. Never a tag. */
  image: string;
  /** CDI name of its GPU, such as `nvidia.com/gpu=GPU-8a56…`, as preflight found it listed; null on a CPU. */
  gpu: string | null;
}

/** One service of a node. Instances are those that shall run; an empty place stays listed in the proxy. */
export interface NodeService {
  service: ServiceName;
  /** Published port of the node. */
  port: number;
  instances: readonly HostInstance[];
  /** Whether a CPU instance stands behind both slots (`fallback: cpu`). */
  cpuFallback: boolean;
}

/** Certificates that the proxy gets by itself. */
export interface AcmeTls {
  mode: "acme";
  domain: string;
  email: string | null;
  /** Directory of the ACME server; null for those that Caddy asks by default. */
  directory: string | null;
  /** Whether the CA that the directory's own certificate is signed by lies beside the proxy's configuration. */
  directoryCa: boolean;
}

/** How the public ports are encrypted. Certificates of `files` lie beside the proxy's configuration. */
export type NodeTls = { mode: "off" } | { mode: "files" } | AcmeTls;

/** Another node, or this one, as the ingress reaches it. */
export interface IngressUpstream {
  node: string;
  /** Address (never a name: it also stands in an allow-list) and the services that the node runs, with their public ports. */
  address: string;
  services: Readonly<Partial<Record<ServiceName, number>>>;
}

/** The one address in front of all nodes, on the node that has it. */
export interface NodeIngress {
  /** Address its port is published on. */
  bind: string;
  port: number;
  nodes: readonly IngressUpstream[];
}

/** Everything that decides what is deployed on one host; rendering it reads nothing else. */
export interface ComposeNode {
  project: string;
  environment: string;
  /** The node's name in gpuctl.yaml. */
  node: string;
  dataDirectory: string;
  /** The one address the public ports are published on. */
  bind: string;
  services: readonly NodeService[];
  /** Where the index asks for vectors when no embedder runs on this node; null otherwise. */
  embedderUrl: string | null;
  proxyImage: string;
  /** A Redis of gpuctl's own, for `redisUrl: redis://redis:6379/0`; null when none is wanted. */
  redis: { image: string; memory: MiB } | null;
  /** Of the public ports of this node; behind an ingress, TLS ends there. */
  tls: NodeTls;
  /** Networks that may use the public ports; empty lets everyone who reaches them. */
  allow: readonly string[];
  /** Address of the ingress node when there is one: its requests come from there on behalf of others. */
  ingressAddress: string | null;
  /** Addresses of nodes whose index asks the embedder of this one. */
  askedFrom: readonly string[];
  /** Set on the node that has the ingress. */
  ingress: NodeIngress | null;
  budgets: { load: Milliseconds; drain: Milliseconds };
  /** Memory of the host; a container may have nine tenths of it, so that a leak ends the container and not the host. */
  hostMemory: MiB;
  /** References of images that this environment brought to the host and has not removed yet, in the order in which they came. */
  images: readonly string[];
}
