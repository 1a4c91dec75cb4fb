import * as command from "@pulumi/command";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { devicePlugin, exporter, missingRuntimeClass, operator, type Chart } from "../lib/charts.js";
import { kubectlToFind } from "../lib/kubectl.js";
import { labels, resourceName, type StackId } from "../lib/names.js";
import type { ClusterConfig } from "../lib/stack-schema.js";
import { askedOf, kubectlInputs, type Kubeconfig } from "./cluster-kubectl.js";

export interface GpuRuntimeArgs {
  id: StackId;
  cluster: ClusterConfig;
  kubernetes: k8s.Provider;
  kubeconfig: Kubeconfig;
  /** Nodes that it runs on: they leave after it is gone. */
  nodes: pulumi.Resource[];
  protect: boolean;
}

/** Longest time a chart may take to become ready, seconds: its images have several hundred megabytes. */
const chartTimeout = 900;

/**
 * What makes cards into something that pods can ask for: device plugin with time-slicing, feature discovery, metrics, the RuntimeClass,
 * a priority for GPU pods and the namespace of the services. NVIDIA's GPU Operator instead, where the stack says so; the priority and
 * the namespace alone where the cluster has a runtime of its own.
 */
export class GpuRuntime extends pulumi.ComponentResource {
  constructor(
    name: string,
    { id, cluster, kubernetes, kubeconfig, nodes, protect }: GpuRuntimeArgs,
    options: pulumi.ComponentResourceOptions,
  ) {
    super("gpuctl:GpuRuntime", name, {}, options);
    const { runtime } = cluster;
    const child = { parent: this, provider: kubernetes, dependsOn: nodes };
    // With a namespace go the volumes in it: models and indexes.
    const services = { metadata: { name: cluster.namespace, labels: labels(id) } };
    new k8s.core.v1.Namespace(`${name}-services`, services, { ...child, protect });
    new k8s.scheduling.v1.PriorityClass(
      `${name}-priority`,
      {
        metadata: { name: resourceName(id, "gpu"), labels: labels(id) },
        value: 100_000,
        preemptionPolicy: "Never",
        description: "GPU services of gpuctl: before ordinary pods in the queue, without ending any",
      },
      child,
    );
    const classes = this.runtimeClass(name, id, cluster, child);
    if (classes.length === 0) classes.push(...this.findRuntimeClass(name, cluster, kubeconfig));
    if (runtime.kind !== "none") this.install(name, id, chartsOf(cluster), { ...child, dependsOn: [...nodes, ...classes] });
    this.registerOutputs({ runtimeClass: runtime.runtimeClass });
  }

  private install(name: string, id: StackId, charts: [string, Chart][], options: pulumi.CustomResourceOptions): void {
    // The plugin and the exporter talk to the driver of the host.
    const privileged = { ...labels(id), "pod-security.kubernetes.io/enforce": "privileged" };
    const metadata = { name: resourceName(id, "gpu-system"), labels: privileged };
    const system = new k8s.core.v1.Namespace(`${name}-system`, { metadata }, options);
    for (const [part, chart] of charts) new k8s.helm.v3.Release(`${name}-${part}`, release(chart, system), options);
  }

  private runtimeClass(
    name: string,
    id: StackId,
    { kind, runtime }: ClusterConfig,
    child: pulumi.CustomResourceOptions,
  ): pulumi.Resource[] {
    // k3s and the operator bring it themselves, and a second one of the same name is an error.
    const wanted = runtime.createRuntimeClass ?? (kind === "existing" && runtime.kind === "device-plugin");
    if (!wanted) return [];
    const metadata = { name: runtime.runtimeClass, labels: labels(id) };
    return [new k8s.node.v1.RuntimeClass(`${name}-class`, { metadata, handler: "nvidia" }, child)];
  }

  /** A class that others have to bring; asked for before anything is made, as the charts would only find out after a quarter of an hour. */
  private findRuntimeClass(name: string, cluster: ClusterConfig, kubeconfig: Kubeconfig): pulumi.Resource[] {
    const { kind, runtimeClass } = cluster.runtime;
    if (kind !== "device-plugin") return [];
    const request = askedOf(cluster, kubeconfig, ["get", "runtimeclass", runtimeClass]);
    const create = kubectlToFind(request, missingRuntimeClass(runtimeClass));
    const inputs = { create, triggers: [cluster.context, runtimeClass], ...kubectlInputs(kubeconfig) };
    return [new command.local.Command(`${name}-class-found`, inputs, { parent: this })];
  }
}

function chartsOf({ runtime }: ClusterConfig): [string, Chart][] {
  if (runtime.kind === "operator") return [["operator", operator(runtime)]];
  return [
    ["device-plugin", devicePlugin(runtime)],
    ...(runtime.exporter ? [["exporter", exporter(runtime)] as [string, Chart]] : []),
  ];
}

function release({ chart, repository, version, values }: Chart, system: k8s.core.v1.Namespace): k8s.helm.v3.ReleaseArgs {
  return {
    // Fixed, so that `helm list` says what it is.
    name: chart,
    chart,
    version,
    repositoryOpts: { repo: repository },
    namespace: system.metadata.name,
    values,
    atomic: true,
    timeout: chartTimeout,
  };
}
