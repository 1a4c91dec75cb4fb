import { z } from "zod";
import type { InventoryNode } from "../inventory.js";
import { secretSource, servicesSchema } from "./schema-services.js";
import {
  acmeDirectory,
  bindAddress,
  cidr,
  count,
  duration,
  filePath,
  host,
  httpAddress,
  imageReference,
  labelMap,
  memorySize,
  port,
  positiveDuration,
  repositoryPath,
  shortName,
} from "./schema-values.js";

/** Settings every target understands; all of them have a default. */
export const sharedEnvironmentSettings = {
  bind: bindAddress.optional().describe("Address the public ports bind to (default 127.0.0.1)."),
  load: positiveDuration.optional().describe("Budget for a candidate to load its model (default 15m)."),
  warmUp: positiveDuration.optional().describe("Budget for warming up every shape (default 5m)."),
  drain: duration.optional().describe("How long running requests may take to end at the switch (default 30s)."),
  soak: duration.optional().describe("How long a new release is watched before it counts as good (default 10s; 60s on hosts)."),
  keepWarm: duration.optional().describe("How long the old instances stay ready for an instant rollback (default 10m)."),
  retain: count(1, 100).optional().describe("Good releases that are kept (default 3)."),
  services: servicesSchema.optional().describe("Settings of services that differ in this environment."),
};

const registry = z
  .strictObject({
    server: host.describe("Registry to pull images from."),
    repository: repositoryPath.optional().describe("Path of the services' image there (default gpuctl-services)."),
    username: z.string().min(1).optional().describe("Account that hosts pull with; without, what `docker login` left on them."),
    password: secretSource
      .optional()
      .describe("Where its password is read from; it reaches a host by stdin and does not stay there."),
  })
  .refine(({ username, password }) => (username === undefined) === (password === undefined), {
    error: "expected username and password together: one of them alone logs in nowhere",
  })
  .describe("Container registry.");

const images = z
  .strictObject({
    services: imageReference.optional(),
    ingress: imageReference.optional().describe("Caddy, in front of the instances of a node and of all nodes."),
    redis: imageReference.optional().describe("Redis, for services with redisUrl redis://redis:6379/0."),
  })
  .describe("Images to use in place of the default ones.");

const modelDelivery = z
  .strictObject({
    delivery: z
      .enum(["copy", "fetch"])
      .optional()
      .describe("copy: sent from the machine that deploys (default). fetch: each node downloads models of the hub itself."),
    hub: httpAddress.optional().describe("The hub or its mirror, as nodes reach it (default https://huggingface.co)."),
    proxy: httpAddress.optional().describe("HTTP proxy on the nodes' way to the hub."),
    token: secretSource.optional().describe("Token for private and gated models; it reaches a node by stdin."),
  })
  .describe("How model files get to the nodes.");

const ssh = z
  .strictObject({
    client: z.enum(["node-ssh", "openssh"]).optional().describe("node-ssh, or the system's ssh (agents, ProxyJump, FIDO keys)."),
    knownHosts: filePath.optional().describe("known_hosts file (default ~/.ssh/known_hosts)."),
    connectTimeout: positiveDuration.optional().describe("Budget for one connection (default 10s)."),
  })
  .describe("How hosts are reached.");

const sshAddress = {
  host: host.describe("Host name or address; `local` means the engine of this machine."),
  user: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]{0,31}$/, { error: "expected a user name" })
    .optional()
    .describe("Default root."),
  port: port.optional().describe("Default 22."),
  bind: bindAddress
    .optional()
    .describe("Address of this node that its public ports are published on (default: that of the environment)."),
  identityFile: filePath.optional().describe("Private key (default: agent and ~/.ssh)."),
  labels: labelMap.optional(),
};

const inventoryHelp = "expected `stack NAME`, such as stack prod, or `file PATH`, such as file inventory.json";

/** Where the inventory of an environment comes from: a stack of Pulumi, asked every time, or a file that was exported from one. */
export type InventorySource = { kind: "stack"; stack: string } | { kind: "file"; path: string };

const inventorySource = z
  .string({ error: inventoryHelp })
  .regex(/^(?:stack [A-Za-z0-9_.-]{1,100}|file [^\0\n]{1,1024})$/, { error: inventoryHelp })
  .transform((text): InventorySource =>
    text.startsWith("stack ")
      ? { kind: "stack", stack: text.slice("stack ".length) }
      : { kind: "file", path: text.slice("file ".length).trim() },
  );

const acmeTls = z
  .strictObject({
    mode: z.literal("acme"),
    domain: host.describe("Name the certificate is for."),
    email: z
      .string()
      .regex(/^[^@\s]+@[^@\s]+$/, { error: "expected an e-mail address" })
      .optional(),
    directory: acmeDirectory
      .optional()
      .describe(
        "Directory of the ACME server to ask, as the node reaches it (default: those that Caddy asks, Let's Encrypt first).",
      ),
    directoryCa: filePath
      .optional()
      .describe(
        "PEM file of this machine with the CA that the directory's own certificate is signed by (default: what Caddy's image trusts).",
      ),
  })
  .refine(({ directory, directoryCa }) => directoryCa === undefined || directory !== undefined, {
    path: ["directoryCa"],
    error: "expected directory beside it, which names the ACME server that this CA is for",
  });

const tls = z
  .discriminatedUnion("mode", [
    z.strictObject({ mode: z.literal("off") }),
    acmeTls,
    z.strictObject({ mode: z.literal("files"), certificate: filePath, key: filePath }),
  ])
  .describe("Encryption of the public ports.");

const ingress = z
  .strictObject({
    node: shortName.describe("Node that balances over the instances of all nodes."),
    port: port.optional().describe("Public port (default 443 with TLS, else 80)."),
  })
  .describe("One address in front of all nodes.");

const hostTarget = {
  ...sharedEnvironmentSettings,
  ssh: ssh.optional(),
  ingress: ingress.optional(),
  tls: tls.optional(),
  allow: z.array(cidr).optional().describe("Networks that may reach the public ports (default: the bind address decides)."),
  registry: registry.optional(),
  images: images.optional(),
};

const nodeMap = <Shape extends z.ZodRawShape>(shape: Shape): z.ZodRecord<typeof shortName, z.ZodObject<Shape, z.core.$strict>> =>
  z.record(shortName, z.strictObject(shape)).describe("Hosts by name.");

export const processEnvironment = z
  .strictObject({
    target: z.literal("process").describe("Child processes on this machine, no Docker."),
    ...sharedEnvironmentSettings,
  })
  .describe("Services as child processes of this machine.");

export const composeEnvironment = z
  .strictObject({
    target: z.literal("compose").describe("Docker Engine, local or over SSH."),
    inventory: inventorySource
      .optional()
      .describe("Where nodes, addresses and host keys come from: `stack NAME` of Pulumi, or `file PATH` (gpuctl infra export)."),
    nodes: nodeMap({ ...sshAddress, host: sshAddress.host.optional() }).optional(),
    dataDirectory: filePath.optional().describe("Where nodes keep models, index and records (default /var/lib/gpuctl)."),
    models: modelDelivery.optional(),
    ...hostTarget,
  })
  .describe("Containers on one or more hosts with Docker.");

export const swarmEnvironment = z
  .strictObject({
    target: z.literal("swarm").describe("Docker Swarm stack."),
    nodes: nodeMap({ ...sshAddress, role: z.enum(["manager", "worker"]).describe("At least one node is a manager.") }),
    stack: shortName.optional().describe("Stack name (default <project>-<environment>)."),
    network: shortName.optional().describe("Overlay network (default <stack>)."),
    ...hostTarget,
  })
  .describe("A Docker Swarm.");

const toleration = z.strictObject({
  key: z.string().optional(),
  operator: z.enum(["Exists", "Equal"]).optional(),
  value: z.string().optional(),
  effect: z.enum(["NoSchedule", "PreferNoSchedule", "NoExecute"]).optional(),
  tolerationSeconds: count(0, 86_400).optional(),
});

export const kubernetesEnvironment = z
  .strictObject({
    target: z.literal("kubernetes").describe("A Helm release in a namespace."),
    context: z
      .string({ error: "expected the name of a kubectl context, as `kubectl config get-contexts` prints it" })
      .min(1, { error: "expected the name of a kubectl context, as `kubectl config get-contexts` prints it" })
      .describe("kubectl context; named, so that no deploy ever goes to the wrong cluster."),
    kubeconfig: filePath.optional().describe("Default: KUBECONFIG, then ~/.kube/config."),
    namespace: shortName.optional().describe("Default <project>-<environment>."),
    release: shortName.optional().describe("Helm release name (default gpuctl)."),
    nodeSelector: labelMap.optional(),
    tolerations: z.array(toleration).optional(),
    runtimeClass: z.string().min(1).optional().describe("RuntimeClass of GPU pods, such as nvidia."),
    gpuResource: z.string().min(1).optional().describe("Extended resource asked for (default nvidia.com/gpu)."),
    storage: z
      .strictObject({ class: z.string().min(1).optional(), size: memorySize.optional().describe("Default 20GiB.") })
      .optional()
      .describe("Volume for models and index."),
    imagePullSecrets: z.array(shortName).optional(),
    allow: z.array(cidr).optional().describe("Networks that may reach the services (a NetworkPolicy)."),
    ingress: z
      .strictObject({ className: z.string().min(1).optional(), host, tlsSecret: shortName.optional() })
      .optional()
      .describe("Ingress in front of the services."),
    images: images.optional(),
    ...sharedEnvironmentSettings,
  })
  .describe("A namespace of a Kubernetes cluster.");

export const environmentSchema = z
  .discriminatedUnion("target", [processEnvironment, composeEnvironment, swarmEnvironment, kubernetesEnvironment])
  .describe("A named place to run: one target and its settings.");

/** What the user file may say about environments: only what every target understands. */
export const sharedEnvironmentSchema = z.strictObject(sharedEnvironmentSettings);

/** An environment as gpuctl.yaml writes it. */
export type WrittenEnvironment = z.output<typeof environmentSchema>;
type WrittenCompose = z.output<typeof composeEnvironment>;

/** A node of a compose environment, once its inventory has been read. */
export type ComposeNodeSettings = NonNullable<WrittenCompose["nodes"]>[string] & {
  host: string;
  /** Public keys that the inventory pins, each as `ssh-ed25519 AAAA…`: no other key is accepted from this host. */
  hostKeys?: readonly string[];
  /** What pins them, for people: `stack prod`. */
  pinnedBy?: string;
  /** GPUs that the inventory promises. */
  gpusPromised?: InventoryNode["gpus"];
  /** Ports that the firewalls of the inventory know. */
  portsAdmitted?: readonly number[];
};

/** An environment with the nodes that it really has. */
export type EnvironmentSettings =
  | Exclude<WrittenEnvironment, { target: "compose" }>
  | (Omit<WrittenCompose, "nodes" | "inventory"> & { nodes: Record<string, ComposeNodeSettings> });
export type SharedEnvironmentSettings = z.output<typeof sharedEnvironmentSchema>;
