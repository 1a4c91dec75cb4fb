import { describe, expect, it } from "vitest";
import { one } from "../../support/infra/resources.js";
import { exampleConfig, runStack } from "../../support/infra/stack-under-mocks.js";

interface OperatorList {
  name: string;
  create: boolean;
  data: unknown;
}

describe("a cluster", () => {
  it("of k3s gets agents that are prepared before they join, with the token on stdin only", async () => {
    const { resources, inventory } = await runStack("k3s-gpu-pool", exampleConfig("k3s-gpu-pool"));
    const joined = one(resources, "pool-gpu-1", "Command");
    expect(joined.secret).toContain("stdin");
    expect(joined.inputs["stdin"]).toContain("K10secret");
    expect(joined.inputs["stdin"]).toContain("nvidia.com/gpu=present:NoSchedule");
    expect(joined.inputs["stdin"]).toContain("\nGPUCTL_K3S_ADDRESS='10.0.0.5'\n");
    expect(one(resources, "pool-gpu-1-removal", "Command").dependsOn).toEqual(["gpu-1-verify", "pool-gpu-1-node"]);
    expect(one(resources, "pool-gpu-1-node", "Command").inputs["delete"]).toBe(
      "'kubectl' '--context' 'shop' 'delete' 'node' 'gpu-1' '--ignore-not-found'",
    );
    expect(inventory.cluster).toMatchObject({
      context: "shop",
      namespace: "retrieval",
      replicasPerGpu: 3,
      runtimeClass: "nvidia",
    });
  });

  it("shares its cards by turns, refuses pods that ask for two of them, and loses the plugin before the nodes", async () => {
    const { resources } = await runStack("k3s-gpu-pool", exampleConfig("k3s-gpu-pool"));
    const plugin = one(resources, "gpu-device-plugin", "Release");
    const values = plugin.inputs["values"] as { config: { map: { default: string } } };
    expect(values.config.map.default).toContain("failRequestsGreaterThanOne: true");
    expect(values.config.map.default).toContain("replicas: 3");
    expect(plugin.dependsOn).toEqual(expect.arrayContaining(["gpu-system", "pool-gpu-1", "pool-gpu-2"]));
    expect(plugin.provider).toBe("cluster");
  });

  it("has its cards labelled by feature discovery, and the runtime on marked nodes alone, where its taint does not keep it out", async () => {
    const config = exampleConfig("k3s-gpu-pool");
    const cluster = { ...(config["gpuctl:cluster"] as object), runtime: { runtimeClass: "nvidia-ours" } };
    const { resources } = await runStack("k3s-gpu-pool", { ...config, "gpuctl:cluster": cluster });
    const [plugin, exporter] = ["gpu-device-plugin", "gpu-exporter"].map(
      (name) => one(resources, name, "Release").inputs["values"],
    );
    const placed = {
      runtimeClassName: "nvidia-ours",
      nodeSelector: { "nvidia.com/gpu.present": "true" },
      tolerations: [{ key: "nvidia.com/gpu", operator: "Exists", effect: "NoSchedule" }],
    };
    expect(plugin).toMatchObject({ ...placed, gfd: { enabled: true } });
    expect(exporter).toMatchObject(placed);
  });

  it("is watched without the fields that a T4 gives to one reader only", async () => {
    const { resources } = await runStack("k3s-gpu-pool", exampleConfig("k3s-gpu-pool"));
    const { customMetrics } = one(resources, "gpu-exporter", "Release").inputs["values"] as { customMetrics: string };
    expect(customMetrics).toContain("DCGM_FI_DEV_FB_USED, gauge");
    expect(customMetrics).not.toContain("_PROF_");
  });

  it("of k3s has its pods talk over the interface that it names, if it does", async () => {
    const config = exampleConfig("k3s-gpu-pool");
    const cluster = { ...(config["gpuctl:cluster"] as object), interface: "enp7s0" };
    const { resources } = await runStack("k3s-gpu-pool", { ...config, "gpuctl:cluster": cluster });
    const { stdin } = one(resources, "pool-gpu-1", "Command").inputs;
    expect(stdin).toContain("\nflannel-iface: enp7s0\n");
    expect(stdin).toContain("\nGPUCTL_K3S_ADDRESS=''\n");
  });

  it("that exists gets label and taint on its GPU nodes and a RuntimeClass, which k3s brings itself", async () => {
    const { resources } = await runStack("existing-cluster", exampleConfig("existing-cluster"));
    expect(one(resources, "pool-gpu-pool-a1-labels", "NodePatch").inputs["metadata"]).toMatchObject({
      name: "gpu-pool-a1",
      labels: { "nvidia.com/gpu.present": "true" },
    });
    expect(one(resources, "pool-gpu-pool-a1-taint", "Command").inputs["create"]).toContain("'nvidia.com/gpu=present:NoSchedule'");
    expect(one(resources, "gpu-class", "RuntimeClass").inputs).toMatchObject({ handler: "nvidia", metadata: { name: "nvidia" } });
  });

  it.each(["existing-cluster", "k3s-gpu-pool"] as const)(
    "of %s is asked by kubectl with the stack's own kubeconfig",
    async (stack) => {
      const secrets = { "gpuctl:k3sToken": "K10secret", "gpuctl:kubeconfig": "apiVersion: v1" };
      const { resources } = await runStack(stack, exampleConfig(stack), secrets);
      const asking = resources.filter(
        ({ type, name }) => type === "command:local:Command" && /^pool-|^gpu-class-found$/.test(name),
      );
      // Two nodes; and in the cluster that brings its RuntimeClass, that.
      expect(asking).toHaveLength(stack === "k3s-gpu-pool" ? 3 : 2);
      for (const { inputs, secret } of asking) {
        expect(inputs["stdin"]).toBe("apiVersion: v1");
        expect(secret).toContain("stdin");
        const { stdin: _, ...open } = inputs;
        expect(JSON.stringify(open)).toContain("KUBECONFIG=$(mktemp)");
        expect(JSON.stringify(open)).not.toContain("apiVersion");
      }
    },
  );

  it("can have NVIDIA's operator instead, which may touch neither driver nor toolkit", async () => {
    const config = exampleConfig("existing-cluster");
    const cluster = { ...(config["gpuctl:cluster"] as object), runtime: { kind: "operator", replicasPerGpu: 2 } };
    const { resources } = await runStack("existing-cluster", { ...config, "gpuctl:cluster": cluster });
    expect(resources.filter(({ type }) => type.endsWith(":Release")).map(({ name }) => name)).toEqual(["gpu-operator"]);
    expect(one(resources, "gpu-operator", "Release").inputs["values"]).toMatchObject({
      driver: { enabled: false, upgradePolicy: { autoUpgrade: false } },
      toolkit: { enabled: false },
    });
    expect(resources.filter(({ type }) => type.endsWith(":RuntimeClass"))).toEqual([]);
  });

  it("gives the operator its lists under another name when they change, which is all that it looks at, and no profiling fields", async () => {
    const config = exampleConfig("existing-cluster");
    const listsWith = async (replicasPerGpu: number) => {
      const cluster = { ...(config["gpuctl:cluster"] as object), runtime: { kind: "operator", replicasPerGpu } };
      const { resources } = await runStack("existing-cluster", { ...config, "gpuctl:cluster": cluster });
      const values = one(resources, "gpu-operator", "Release").inputs["values"] as Record<string, { config: OperatorList }>;
      return { slicing: values["devicePlugin"]!.config, counters: values["dcgmExporter"]!.config };
    };
    const [two, three, again] = [await listsWith(2), await listsWith(3), await listsWith(2)];
    expect(two.slicing).toMatchObject({
      create: true,
      name: expect.stringMatching(/^gpuctl-time-slicing-[0-9a-f]{8}$/) as string,
    });
    expect(three.slicing.name).not.toBe(two.slicing.name);
    expect([again, three.counters]).toEqual([two, two.counters]);
    expect(two.counters).toMatchObject({ create: true, name: expect.stringMatching(/^gpuctl-counters-[0-9a-f]{8}$/) as string });
    expect(two.counters.data).toContain("DCGM_FI_DEV_FB_USED, gauge,");
    expect(two.counters.data).not.toContain("DCGM_FI_PROF");
  });
});

describe("a cluster that has its own GPU runtime", () => {
  it("gets the namespace of the services and a priority, and nothing that it may have already", async () => {
    const config = exampleConfig("existing-cluster");
    const cluster = { ...(config["gpuctl:cluster"] as object), gpuNodes: [], runtime: { kind: "none" } };
    const { resources } = await runStack("existing-cluster", { ...config, "gpuctl:cluster": cluster });
    const made = resources.filter(({ type }) => type.startsWith("kubernetes:"));
    expect(made.map(({ name }) => name).sort()).toEqual(["gpu-priority", "gpu-services"]);
  });
});
