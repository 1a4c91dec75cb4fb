import { z } from "zod";
import { cidr, count, host, port, shortName } from "./config/schema-values.js";

/** One line of a `known_hosts` file without the host: `ssh-ed25519 AAAA…`. */
const hostKey = z
  .string({ error: "expected a public host key" })
  .regex(/^(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]+={0,2}$/, {
    error: "expected a public host key such as `ssh-ed25519 AAAA…`, without host and comment",
  });

const gpus = z.strictObject({
  /** Cards that must be seen before anything is deployed; 0 for a host that has none. */
  expected: count(0, 16),
  /** Name as `nvidia-smi` prints it; null where nobody said which. */
  product: z.string().min(1).nullable(),
  /** Memory of one card, MiB; null where nobody said how much. */
  memory: count(1, 1_048_576).nullable(),
});

const node = z.strictObject({
  kind: z.enum(["hcloud", "adopted"]),
  /** Where SSH reaches it. */
  host,
  user: z.string().regex(/^[a-z_][a-z0-9_-]{0,31}$/, { error: "expected a user name" }),
  port,
  /** Address that its services are published on; null for a node without a private network. */
  privateAddress: host.nullable(),
  /** At least one: a node whose key nobody knows cannot be trusted at the first connection. */
  hostKeys: z.array(hostKey).min(1),
  gpus,
  /** Where the provider says it is, such as `fsn1`; null for an adopted one. */
  location: z.string().min(1).nullable(),
  /** SHA-256 (hex) of the preparation script that it was prepared with. */
  preparedWith: z
    .string()
    .regex(/^[0-9a-f]{64}$/, { error: "expected a SHA-256 in hex" })
    .nullable(),
});

const cluster = z.strictObject({
  /** Context in the user's kubeconfig. */
  context: z.string().min(1),
  namespace: shortName,
  /** RuntimeClass of pods with a GPU; null where the cluster's default runtime sees it. */
  runtimeClass: z.string().min(1).nullable(),
  nodeSelector: z.record(z.string().min(1), z.string()),
  /** How many pods share one card by time-slicing; 1 for none. */
  replicasPerGpu: count(1, 48),
});

/**
 * What the infrastructure made, as data and without secrets: the one document between `pulumi up` and `gpuctl deploy`.
 * A stack has it as its output `inventory`; `gpuctl infra export` writes it to a file.
 */
export const inventorySchema = z.strictObject({
  schemaVersion: z.literal(1),
  project: shortName,
  stack: z.string().regex(/^[A-Za-z0-9_.-]{1,100}$/, { error: "expected the name of a stack" }),
  nodes: z.record(shortName, node),
  /** Private network of the nodes; null for none. */
  network: z.strictObject({ range: cidr }).nullable(),
  /** Networks of the app: the only ones that reach the services. */
  allow: z.array(cidr),
  /** Ports that the firewalls let the app reach; whatever is published on another one, nobody guards or nobody reaches. */
  servicePorts: z.array(port).min(1),
  cluster: cluster.nullable(),
});

export type Inventory = z.infer<typeof inventorySchema>;
export type InventoryNode = Inventory["nodes"][string];
