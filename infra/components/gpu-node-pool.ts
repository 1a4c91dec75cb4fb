import * as command from "@pulumi/command";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { gpuNodeLabels, gpuTaint } from "../lib/charts.js";
import { k3sAgentConfig, k3sAgentUnit, k3sBinary, k3sFiles, type AgentNode } from "../lib/k3s.js";
import { kubectl, kubectlUnlessGone, type KubectlRequest } from "../lib/kubectl.js";
import { remoteProgram, sha256 } from "../lib/remote-program.js";
import type { ClusterConfig, K3sCluster } from "../lib/stack-schema.js";
import { remoteScript } from "../scripts.js";
import { askedOf, kubectlInputs, type Kubeconfig } from "./cluster-kubectl.js";
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
  kubeconfig: Kubeconfig;
}

/** GPU nodes of a cluster: prepared hosts that join k3s, or nodes that an existing cluster has. */
export class GpuNodePool extends pulumi.ComponentResource {
  /** Whoever needs the nodes waits for these. */
  readonly members: pulumi.Resource[];
  private readonly kubeconfig: Kubeconfig;

  constructor(name: string, args: GpuNodePoolArgs, options: pulumi.ComponentResourceOptions) {
    super("gpuctl:GpuNodePool", name, {}, options);
    const { cluster, agents, token, kubernetes } = args;
    this.kubeconfig = args.kubeconfig;
    this.members =
      cluster.kind === "k3s"
        ? agents.map((agent) => this.join(`${name}-${agent.node.name}`, cluster, agent, token ?? pulumi.output("")))
        : cluster.gpuNodes.flatMap((node) => this.mark(`${name}-${node}`, cluster, node, kubernetes));
    this.registerOutputs({});
  }

  private join(name: string, cluster: K3sCluster, agent: Agent, token: pulumi.Output<string>): pulumi.Resource {
    const { reach } = agent;
    // The agent ends first, then its node is taken out of the cluster: a node whose agent runs comes back.
    const forget = this.asked(cluster, ["delete", "node", agent.node.name, "--ignore-not-found"]);
    const forgotten = new command.local.Command(
      `${name}-node`,
      { delete: kubectl(forget), ...kubectlInputs(this.kubeconfig) },
      { parent: this },
    );
    const left = runWhenDeleted(
      `${name}-removal`,
      { reach, program: remoteProgram(remoteScript("leave-k3s"), { GPUCTL_K3S_NODE: agent.node.name }) },
      { parent: this, dependsOn: [agent.ready, forgotten] },
    );
    const config = k3sAgentConfig(cluster, agent.node);
    const program = pulumi.secret(token).apply((secret) => joinProgram(cluster, agent.node, secret.trim()));
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
        create: kubectl(this.asked(cluster, ["taint", "node", node, `${key}=${value}:${effect}`, "--overwrite"])),
        delete: kubectlUnlessGone(this.asked(cluster, ["taint", "node", node, `${key}:${effect}-`]), [
          `nodes "${node}" not found`,
          `taint "${key}:${effect}" not found`,
        ]),
        ...kubectlInputs(this.kubeconfig),
      },
      { parent: this, dependsOn: [labels] },
    );
    return [labels, taint];
  }

  private asked(cluster: ClusterConfig, args: readonly string[]): KubectlRequest {
    return askedOf(cluster, this.kubeconfig, args);
  }
}

function joinProgram(cluster: K3sCluster, node: AgentNode, token: string): string {
  const config = k3sAgentConfig(cluster, node);
  return remoteProgram(
    remoteScript("join-k3s"),
    {
      GPUCTL_K3S_URL: k3sBinary(cluster),
      GPUCTL_K3S_SHA256: cluster.sha256,
      GPUCTL_K3S_FILES: sha256(`${config}\0${token}`),
      // An interface that the configuration names stands in the file already.
      GPUCTL_K3S_ADDRESS: cluster.interface === null ? (node.address ?? "") : "",
    },
    [
      { path: k3sFiles.config, mode: "0600", content: config },
      { path: k3sFiles.token, mode: "0600", content: token },
      { path: k3sFiles.unit, mode: "0644", content: k3sAgentUnit },
    ],
    remoteScript("k3s-is-ours"),
  );
}
