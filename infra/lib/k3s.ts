import { stringify } from "yaml";
import { gpuNodeLabels, gpuTaint } from "./charts.js";
import type { K3sCluster } from "./stack-schema.js";

/** Where the agent's files lie on a host. */
export const k3sFiles = {
  config: "/etc/rancher/k3s/config.yaml",
  token: "/etc/rancher/k3s/gpuctl-token",
  unit: "/etc/systemd/system/k3s-agent.service",
} as const;

/** Where the release on GitHub has the binary for x86-64. */
export function k3sBinary({ version, binaryUrl }: Pick<K3sCluster, "version" | "binaryUrl">): string {
  return binaryUrl ?? `https://github.com/k3s-io/k3s/releases/download/${encodeURIComponent(version)}/k3s`;
}

/** Nodes with this label get no volume of Hetzner Cloud, which could not be attached to them (CSI driver's own documentation). */
const dedicatedLabel = { "instance.hetzner.cloud/provided-by": "robot" };

/** A host as its cluster sees it. */
export interface AgentNode {
  name: string;
  /** On the private network. */
  address: string | null;
  gpu: boolean;
  /** A dedicated server of Hetzner Robot. */
  dedicated: boolean;
}

/**
 * The agent's `config.yaml`. The token is in a file of its own, which is read by root only.
 * A node with a GPU is labelled and tainted from its first second.
 */
export function k3sAgentConfig(cluster: K3sCluster, node: AgentNode): string {
  const nodeLabels = { ...cluster.nodeLabels, ...(node.gpu ? gpuNodeLabels : {}), ...(node.dedicated ? dedicatedLabel : {}) };
  return stringify({
    server: cluster.server,
    "token-file": k3sFiles.token,
    "node-name": node.name,
    ...(node.address === null ? {} : { "node-ip": node.address }),
    ...(cluster.interface === null ? {} : { "flannel-iface": cluster.interface }),
    "node-label": Object.entries(nodeLabels).map(([key, value]) => `${key}=${value}`),
    "node-taint": node.gpu ? [`${gpuTaint.key}=${gpuTaint.value}:${gpuTaint.effect}`] : [],
  });
}

export const k3sAgentUnit = `[Unit]
Description=k3s agent of gpuctl
After=network-online.target gpuctl-vswitch.service
Wants=network-online.target

[Service]
Type=notify
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/k3s agent
KillMode=process
Delegate=yes
LimitNOFILE=1048576
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s

[Install]
WantedBy=multi-user.target
`;
