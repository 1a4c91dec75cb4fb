import { z } from "zod";
import { cidr, count, host, labelMap, port, shortName } from "../../cli/src/domain/config/schema-values.js";
import { parseNetwork } from "./cidr.js";

const publicKey = z
  .string({ error: "expected a public key such as ssh-ed25519 AAAA…" })
  .regex(/^(?:ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+={0,2}(?: [^\n]*)?$/, {
    error: "expected one public key in one line, such as ssh-ed25519 AAAA… name",
  });

/**
 * `ssh-rsa` is left out: the provider that makes the connections would ask for that very signature, which sshd has not offered since
 * OpenSSH 8.8.
 */
const hostKeyHelp =
  "expected the host's own public key, `ssh-ed25519 AAAA…` or `ecdsa-sha2-nistp256 AAAA…`, as `gpuctl host add NAME --host HOST --stack STACK` writes it; compare its fingerprint with the console first";
const hostKey = z
  .string({ error: hostKeyHelp })
  .regex(/^(?:ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]+={0,2}$/, { error: hostKeyHelp });

const text = (help: string, pattern: RegExp) => z.string({ error: help }).regex(pattern, { error: help });
const ipAddress = host.refine((address) => parseNetwork(address) !== null, {
  error: "expected an IP address: the firewalls of the other hosts take no names",
});
const userName = text("expected a user name", /^[a-z_][a-z0-9_-]{0,31}$/);
const interfaceName = text("expected a network interface such as enp5s0", /^[A-Za-z0-9_.:-]{1,15}$/);
const version = text("expected a version such as 0.20.1", /^v?\d+\.\d+\.\d+(?:[+.-][A-Za-z0-9.+-]{1,40})?$/);
const chartVersion = version.nullable().default(null);

const gpu = z.strictObject({
  count: count(1, 16),
  /** As `nvidia-smi` prints it. */
  product: z.string().min(1).nullable().default(null),
  /** Memory of one card, MiB. */
  memoryMiB: count(1, 1_048_576).nullable().default(null),
});

const volume = z.strictObject({
  sizeGB: count(10, 10_240),
});

const hcloudNode = z.strictObject({
  kind: z.literal("hcloud"),
  serverType: text("expected a server type such as cx33 or ccx23", /^[a-z][a-z0-9-]{1,31}$/),
  location: text("expected a location such as fsn1 (datacenters are gone since 2026)", /^[a-z]{2,5}\d?$/),
  /** By name: an id would replace the server when the image is built anew. */
  image: text("expected an image by name, such as ubuntu-24.04 or debian-13", /^[a-z][a-z0-9.-]{1,62}$/).default("ubuntu-24.04"),
  /** Host number in the subnet; made from the name when missing. */
  number: count(10, 249).nullable().default(null),
  volume: volume.nullable().default(null),
  /** Only so that asking for one gets an answer: there is no such server type. */
  gpu: z.unknown().optional(),
});

const robotVlan = z.strictObject({
  id: count(4000, 4091),
  /** The main interface; the VLAN is tagged on it. */
  interface: interfaceName,
  address: host,
});

const adoptedNode = z.strictObject({
  kind: z.literal("adopted"),
  host,
  user: userName.default("root"),
  port: port.default(22),
  hostKey,
  gpu: gpu.nullable().default(null),
  privateAddress: ipAddress.nullable().default(null),
  /** Whether preparing may reboot the box, which a new driver can need: `allow` while no release serves there, `always` also then. */
  reboot: z.enum(["allow", "always", "never"]).default("never"),
  /** For a dedicated server of Hetzner Robot: cloud volumes do not attach to it, a vSwitch may. */
  robot: z
    .strictObject({ vlan: robotVlan.nullable().default(null) })
    .nullable()
    .default(null),
});

const network = z.strictObject({
  range: cidr,
  zone: text("expected a network zone such as eu-central", /^[a-z]{2,4}-[a-z]+$/).default("eu-central"),
  cloud: cidr.nullable().default(null),
  vswitch: z
    .strictObject({ id: count(1, 99_999_999), range: cidr })
    .nullable()
    .default(null),
});

const gpuRuntime = z.strictObject({
  /** `device-plugin`: driver and toolkit are the host's. `operator`: NVIDIA's GPU Operator looks after the rest. `none`: the cluster has its own. */
  kind: z.enum(["device-plugin", "operator", "none"]).default("device-plugin"),
  /** Pods that share a card by turns, without isolation of memory; 1 for one pod a card. */
  replicasPerGpu: count(1, 48).default(3),
  runtimeClass: z.string().min(1).default("nvidia"),
  /** k3s brings the class itself. */
  createRuntimeClass: z.boolean().nullable().default(null),
  devicePluginVersion: chartVersion,
  operatorVersion: chartVersion,
  exporterVersion: chartVersion,
  exporter: z.boolean().default(true),
});

const clusterBase = {
  context: z.string({ error: "expected a context of your kubeconfig" }).min(1),
  namespace: shortName.default("gpuctl"),
  nodeLabels: labelMap.default({}),
  runtime: gpuRuntime.prefault({}),
};

const k3sCluster = z.strictObject({
  kind: z.literal("k3s"),
  ...clusterBase,
  /** Of the k3s server, such as `https://10.20.1.5:6443`. */
  server: text("expected the k3s server's address, such as https://10.20.1.5:6443", /^https:\/\/[^\s/]+:\d{1,5}$/),
  version: text("expected a k3s version such as v1.35.2+k3s1", /^v\d+\.\d+\.\d+\+k3s\d+$/),
  /** Of the k3s binary, from the release's `sha256sum-amd64.txt`, or that of the architecture that `binaryUrl` is for. */
  sha256: text("expected the SHA-256 of the k3s binary (sha256sum-amd64.txt of its release)", /^[0-9a-f]{64}$/),
  /** Where the binary comes from, one for all agents; null for the one of the release on GitHub, which is for x86-64. */
  binaryUrl: text("expected an https address", /^https:\/\/\S+$/)
    .nullable()
    .default(null),
  /** Interface of the pods' network between nodes; null for the one that has the node's private address. */
  interface: interfaceName.nullable().default(null),
  agents: z.array(shortName).min(1),
});

const existingCluster = z.strictObject({
  kind: z.literal("existing"),
  ...clusterBase,
  /** Names of the cluster's GPU nodes, which get label and taint; empty when something else gives them. */
  gpuNodes: z.array(text("expected a node's name", /^[a-z0-9][a-z0-9.-]{0,252}$/)).default([]),
});

const mirror = text(
  "expected the base of a repository, https://… or file:///…, without a slash at its end",
  /^(?:https|file):\/\/\S+[^/\s]$/,
)
  .nullable()
  .default(null);

/** Everything below `gpuctl:` in `Pulumi.<stack>.yaml`, but the secrets. */
export const stackSchema = z.strictObject({
  project: shortName,
  /** Needed where there are hosts. */
  operators: z
    .strictObject({
      /** Networks that SSH is allowed from. */
      addresses: z.array(cidr).default([]),
      /** Public keys of the people who may log in. */
      keys: z.array(publicKey).default([]),
      /** A second time, the networks that open SSH to the internet, one or a list; without it such a network is refused. */
      anywhere: z
        .union([cidr, z.array(cidr)])
        .nullable()
        .default(null)
        .transform((said): readonly string[] => (typeof said === "string" ? [said] : (said ?? []))),
    })
    .prefault({}),
  /** Networks of the app, the only ones that reach the services. */
  app: z.array(cidr).default([]),
  servicePorts: z.array(port).min(1).default([8001, 8002, 8003]),
  deployUser: userName.default("gpuctl"),
  network: network.nullable().default(null),
  nodes: z.record(shortName, z.discriminatedUnion("kind", [hcloudNode, adoptedNode])).default({}),
  cluster: z.discriminatedUnion("kind", [k3sCluster, existingCluster]).nullable().default(null),
  /** Any text; another one prepares every host again. */
  revision: text("expected a short text", /^[A-Za-z0-9._-]{1,40}$/).default("1"),
  /** Where hosts get packages from, when not from Docker's, the toolkit's and NVIDIA's own servers. */
  mirrors: z.strictObject({ docker: mirror, toolkit: mirror, driver: mirror }).prefault({}),
  /** The price list that `gpuctl cost` reads too, from the folder of Pulumi.yaml: what a GPU costs where there is one. */
  prices: text("expected the path of a price list, such as prices.yaml", /\S/).default("prices.yaml"),
  /** Whether volumes and addresses refuse to be deleted; false for the last `pulumi up` before a `pulumi destroy`. */
  protect: z.boolean().default(true),
});

export type StackConfig = z.output<typeof stackSchema>;
export type NodeConfig = StackConfig["nodes"][string];
export type HcloudNode = Extract<NodeConfig, { kind: "hcloud" }>;
export type AdoptedNode = Extract<NodeConfig, { kind: "adopted" }>;
export type ClusterConfig = NonNullable<StackConfig["cluster"]>;
export type K3sCluster = Extract<ClusterConfig, { kind: "k3s" }>;
export type GpuRuntimeConfig = ClusterConfig["runtime"];
