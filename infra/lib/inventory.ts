import { inventorySchema, type Inventory, type InventoryNode } from "../../cli/src/domain/inventory.js";
import { gpuNodeLabels } from "./charts.js";
import type { AdoptedNode, ClusterConfig, NodeConfig, StackConfig } from "./stack-schema.js";

/** What is known of a host once it is prepared. */
export interface PreparedHost {
  name: string;
  /** Where SSH reaches it. */
  host: string;
  hostKey: string;
  privateAddress: string | null;
}

/**
 * @param user the one that the preparation made to deploy as
 * @param script SHA-256 of the preparation script
 */
export function inventoryNode(node: NodeConfig, user: string, made: PreparedHost, script: string): InventoryNode {
  const gpu = node.kind === "adopted" ? node.gpu : null;
  return {
    kind: node.kind,
    host: made.host,
    user,
    port: node.kind === "adopted" ? node.port : 22,
    privateAddress: made.privateAddress,
    hostKeys: [made.hostKey],
    gpus: { expected: gpu?.count ?? 0, product: gpu?.product ?? null, memory: gpu?.memoryMiB ?? null },
    location: node.kind === "hcloud" ? node.location : null,
    preparedWith: script,
  };
}

/** Where an adopted host publishes its services: what the configuration says, else its address on the vSwitch. */
export const adoptedPrivateAddress = (node: AdoptedNode): string | null =>
  node.privateAddress ?? node.robot?.vlan?.address ?? null;

/**
 * The stack's output `inventory`.
 * @throws ZodError when it is not what the command line reads: a bug
 */
export function buildInventory(stack: string, config: StackConfig, nodes: Readonly<Record<string, InventoryNode>>): Inventory {
  return inventorySchema.parse({
    schemaVersion: 1,
    project: config.project,
    stack,
    nodes,
    network: config.network === null ? null : { range: config.network.range },
    allow: config.app,
    servicePorts: config.servicePorts,
    cluster: config.cluster === null ? null : inventoryCluster(config.cluster),
  });
}

function inventoryCluster({ context, namespace, nodeLabels, runtime }: ClusterConfig): NonNullable<Inventory["cluster"]> {
  return {
    context,
    namespace,
    runtimeClass: runtime.runtimeClass,
    nodeSelector: { ...nodeLabels, ...gpuNodeLabels },
    replicasPerGpu: runtime.replicasPerGpu,
  };
}
