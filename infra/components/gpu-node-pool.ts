import * as command from "@pulumi/command";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { gpuNodeLabels, gpuTaint } from "../lib/charts.js";
import { k3sAgentConfig, k3sAgentUnit, k3sBinary, k3sFiles, type AgentNode } from "../lib/k3s.js";
import { remoteProgram, sha256, shellQuoted } from "../lib/remote-program.js";
import type { ClusterConfig, K3sCluster } from "../lib/stack-schema.js";
import { remoteScript } from "../scripts.js";
import { runOnHost, runWhenDeleted, type Reach } from "./remote-command.js";

/** A prepared host that becomes an agent. */
export interface Agent {
  node: AgentNode;
  reach: Reach;
  ready: pulumi.Resource;
}

export interface GpuNodePoolArgs {
  cluster: ClusterConfig;
  agents: readonly Agent[];
  /** The k3s server's; only for a k3s cluster. */
  token: pulumi.Output<string> | undefined;
  kubernetes: k8s.Provider;
}

/** GPU nodes of a cluster: prepared hosts that join k3s, or nodes that an existing cluster has. */
export class GpuNodePool extends pulumi.ComponentResource {
  /** Whoever needs the nodes waits for these. */
  readonly members: pulumi.Resource[];

  constructor(name: string, { cluster, agents, token, kubernetes }: GpuNodePoolArgs, options: pulumi.ComponentResourceOptions) {
    super("gpuctl:GpuNodePool", name, {}, options);
    this.members =
      cluster.kind === "k3s"
        ? agents.map((agent) => this.join(`${name}-${agent.node.name}`, cluster, agent, token ?? pulumi.output("")))
        : cluster.gpuNodes.flatMap((node) => this.mark(`${name}-${node}`, cluster, node, kubernetes));
    this.registerOutputs({});
  }

  private join(name: string, cluster: K3sCluster, agent: Agent, token: pulumi.Output<string>): pulumi.Resource {
    const { reach } = agent;
    // The agent ends first, then its node is taken out of the cluster: a node whose agent runs comes back.
    const forgotten = this.kubectlWhenDeleted(`${name}-node`, cluster, ["delete", "node", agent.node.name, "--ignore-not-found"]);
    const left = runWhenDeleted(
      `${name}-removal`,
      { reach, program: remoteProgram(remoteScript("leave-k3s"), {}) },
      { parent: this, dependsOn: [agent.ready, forgotten] },
    );
    const config = k3sAgentConfig(cluster, agent.node);
    const program = pulumi.secret(token).apply((secret) => joinProgram(cluster, config, secret.trim()));
    return runOnHost(name, { reach, program, triggers: [cluster.version, sha256(config)] }, { parent: this, dependsOn: [left] });
  }

  /** Labels by the API, the taint by kubectl: applied as a whole, the list of taints would lose those of others. */
  private mark(name: string, cluster: ClusterConfig, node: string, provider: k8s.Provider): pulumi.Resource[] {
    const labels = new k8s.core.v1.NodePatch(
      `${name}-labels`,
      {
        metadata: {
          name: node,
          labels: { ...cluster.nodeLabels, ...gpuNodeLabels },
          annotations: { "pulumi.com/patchForce": "true" },
        },
      },
      { parent: this, provider },
    );
    const { key, value, effect } = gpuTaint;
    const taint = new command.local.Command(
      `${name}-taint`,
      {
        create: kubectl(cluster, ["taint", "node", node, `${key}=${value}:${effect}`, "--overwrite"]),
        delete: kubectl(cluster, ["taint", "node", node, `${key}:${effect}-`]),
        addPreviousOutputInEnv: false,
      },
      { parent: this, dependsOn: [labels] },
    );
    return [labels, taint];
  }

  private kubectlWhenDeleted(name: string, cluster: ClusterConfig, args: readonly string[]): command.local.Command {
    return new command.local.Command(name, { delete: kubectl(cluster, args), addPreviousOutputInEnv: false }, { parent: this });
  }
}

const kubectl = ({ context }: ClusterConfig, args: readonly string[]): string =>
  ["kubectl", "--context", context, ...args].map(shellQuoted).join(" ");

function joinProgram(cluster: K3sCluster, config: string, token: string): string {
  return remoteProgram(
    remoteScript("join-k3s"),
    { GPUCTL_K3S_URL: k3sBinary(cluster), GPUCTL_K3S_SHA256: cluster.sha256, GPUCTL_K3S_FILES: sha256(`${config}\0${token}`) },
    [
      { path: k3sFiles.config, mode: "0600", content: config },
      { path: k3sFiles.token, mode: "0600", content: token },
      { path: k3sFiles.unit, mode: "0644", content: k3sAgentUnit },
    ],
    remoteScript("k3s-is-ours"),
  );
}
