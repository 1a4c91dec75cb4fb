import { describe, expect, it } from "vitest";
import { inventorySchema } from "../../../cli/src/domain/inventory.js";
import { gpuPodsWithoutLimits, openSsh, tokensInUserData, unprotected } from "../../../infra/policy/checks.js";
import { hostScript } from "../../../infra/scripts.js";
import {
  exampleConfig,
  exampleStacks,
  hostKeyOfServer,
  privateKey,
  runStack,
  unusableKey,
  type ExampleStack,
  type Registered,
} from "../../support/infra/stack-under-mocks.js";

interface OperatorList {
  name: string;
  create: boolean;
  data: unknown;
}

const graphs: Record<ExampleStack, string[]> = {
  "hetzner-cpu": [
    "Command server-key",
    "Command staging-1-first-contact",
    "Command staging-1-first-key",
    "Command staging-1-forget-first-key",
    "Command staging-1-mount",
    "Command staging-1-operators",
    "Command staging-1-prepare",
    "Command staging-1-verify",
    "Firewall firewall",
    "HcloudHost staging-1",
    "ModelVolume staging-1-models",
    "Network network",
    "NetworkSubnet network-cloud",
    "PrimaryIp staging-1-ip",
    "PrivateNetwork network",
    "Server staging-1",
    "ServerNetwork staging-1-network",
    "ServiceFirewall firewall",
    "SshKey server-key",
    "Volume staging-1-models",
    "VolumeAttachment staging-1-models-attachment",
    "hcloud hcloud",
  ],
  "adopted-t4": [
    "AdoptedHost gpu-1",
    "Command gpu-1-box",
    "Command gpu-1-preflight",
    "Command gpu-1-prepare",
    "Command gpu-1-removal",
    "Command gpu-1-verify",
  ],
  "robot-gex": [
    "AdoptedHost gex-1",
    "Command app-1-first-contact",
    "Command app-1-first-key",
    "Command app-1-forget-first-key",
    "Command app-1-operators",
    "Command app-1-prepare",
    "Command app-1-verify",
    "Command gex-1-box",
    "Command gex-1-preflight",
    "Command gex-1-prepare",
    "Command gex-1-removal",
    "Command gex-1-verify",
    "Command gex-1-vswitch",
    "Command gex-1-vswitch-removal",
    "Command server-key",
    "Firewall firewall",
    "HcloudHost app-1",
    "Network network",
    "NetworkSubnet network-cloud",
    "NetworkSubnet network-vswitch",
    "PrimaryIp app-1-ip",
    "PrivateNetwork network",
    "Server app-1",
    "ServerNetwork app-1-network",
    "ServiceFirewall firewall",
    "SshKey server-key",
    "hcloud hcloud",
  ],
  "k3s-gpu-pool": [
    "AdoptedHost gpu-1",
    "AdoptedHost gpu-2",
    "Command gpu-1-box",
    "Command gpu-1-preflight",
    "Command gpu-1-prepare",
    "Command gpu-1-removal",
    "Command gpu-1-verify",
    "Command gpu-2-box",
    "Command gpu-2-preflight",
    "Command gpu-2-prepare",
    "Command gpu-2-removal",
    "Command gpu-2-verify",
    "Command gpu-class-found",
    "Command pool-gpu-1",
    "Command pool-gpu-1-node",
    "Command pool-gpu-1-removal",
    "Command pool-gpu-2",
    "Command pool-gpu-2-node",
    "Command pool-gpu-2-removal",
    "GpuNodePool pool",
    "GpuRuntime gpu",
    "Namespace gpu-services",
    "Namespace gpu-system",
    "PriorityClass gpu-priority",
    "Release gpu-device-plugin",
    "Release gpu-exporter",
    "kubernetes cluster",
  ],
  "existing-cluster": [
    "Command pool-gpu-pool-a1-taint",
    "Command pool-gpu-pool-a2-taint",
    "GpuNodePool pool",
    "GpuRuntime gpu",
    "Namespace gpu-services",
    "Namespace gpu-system",
    "NodePatch pool-gpu-pool-a1-labels",
    "NodePatch pool-gpu-pool-a2-labels",
    "PriorityClass gpu-priority",
    "Release gpu-device-plugin",
    "Release gpu-exporter",
    "RuntimeClass gpu-class",
    "kubernetes cluster",
  ],
};

describe.each(exampleStacks)("the example %s", (stack) => {
  it("makes exactly these resources, and an inventory that the command line accepts and that holds no secret", async () => {
    const { resources, inventory, readable } = await runStack(stack, exampleConfig(stack));
    expect(resources.map(({ type, name }) => `${type.split(":").at(-1) ?? ""} ${name}`).sort()).toEqual(graphs[stack]);
    expect(inventorySchema.parse(inventory)).toEqual(inventory);
    expect(JSON.stringify(inventory)).not.toMatch(/PRIVATE KEY|K10secret|tttt/);
    expect(readable, "pulumi stack output shows it").toBe(true);
  });

  it("connects to no host whose key it does not check, hands values over on stdin, and mixes no creation with a deletion", async () => {
    const { resources } = await runStack(stack, exampleConfig(stack));
    for (const command of remote(resources)) {
      const connection = command.inputs["connection"] as Record<string, unknown>;
      expect(connection["hostKey"], command.name).toMatch(/^(?:ssh-ed25519|ecdsa-sha2-nistp256) AAAA/);
      expect(command.secret, command.name).toContain("connection");
      expect(command.inputs, command.name).not.toHaveProperty("environment");
      expect(command.inputs["addPreviousOutputInEnv"], command.name).toBe(false);
      expect(command.inputs["stdin"], command.name).toMatch(/^gpuctl_program\(\) \{\n/);
      expect(Number("create" in command.inputs) + Number("delete" in command.inputs), command.name).toBe(1);
    }
  });

  it("passes its own policies", async () => {
    const { resources } = await runStack(stack, exampleConfig(stack));
    for (const { type, inputs, protect } of resources) {
      const planned = { type, props: inputs, protect };
      const found = [openSsh(planned, []), tokensInUserData(planned), unprotected(planned), gpuPodsWithoutLimits(planned)];
      expect(found.flat(), type).toEqual([]);
    }
  });

  it("keeps every secret encrypted, in whatever input it stands", async () => {
    const { resources } = await runStack(stack, exampleConfig(stack));
    for (const { name, inputs, secret } of resources) {
      const open = Object.entries(inputs).filter(([key]) => !secret.includes(key));
      expect(JSON.stringify(open), name).not.toMatch(/PRIVATE KEY-----|K10secret|t{64}/);
    }
  });
});

describe("a cloud server", () => {
  it("is never replaced because of its user data, its keys or its image, and waits for its subnet", async () => {
    const { resources } = await runStack("hetzner-cpu", exampleConfig("hetzner-cpu"));
    const server = one(resources, "staging-1", "Server");
    expect(server.ignoreChanges).toEqual(["userData", "sshKeys", "image"]);
    expect(server.deleteBeforeReplace).toBe(true);
    expect(server.dependsOn).toContain("network-cloud");
    expect(server.inputs).toMatchObject({
      serverType: "cx43",
      location: "fsn1",
      image: "ubuntu-24.04",
      name: "shop-hetzner-cpu-staging-1-5a2c35d2",
    });
    expect(server.inputs).not.toHaveProperty("networks");
    expect(server.inputs).not.toHaveProperty("datacenter");
    expect(server.secret).toContain("userData");
  });

  it("is made with a key that no operator has: one project takes each key once, and stacks share operators", async () => {
    const { resources } = await runStack("hetzner-cpu", exampleConfig("hetzner-cpu"));
    const key = one(resources, "server-key", "SshKey");
    expect(key.inputs["publicKey"]).toBe(unusableKey);
    expect(one(resources, "server-key", "Command").ignoreChanges).toEqual(["create"]);
    const server = one(resources, "staging-1", "Server");
    expect(server.inputs["sshKeys"]).toHaveLength(1);
    const { operators } = Object.fromEntries(
      Object.entries(exampleConfig("hetzner-cpu")).map(([name, value]) => [name.replace("gpuctl:", ""), value]),
    ) as { operators: { keys: string[] } };
    for (const operator of operators.keys) expect(server.inputs["userData"]).toContain(operator);
  });

  it("has no list of operators' addresses of its own, and loses the one that it was once told: it would lock everybody out", async () => {
    const { resources } = await runStack("robot-gex", exampleConfig("robot-gex"));
    const [server, box] = ["app-1", "gex-1"].map((host) => one(resources, `${host}-prepare`, "Command").inputs["stdin"]);
    expect(server).toMatch(/^GPUCTL_SSH_ADDRESSES=$/m);
    expect(one(resources, "app-1", "Server").inputs["userData"]).toMatch(/^ *GPUCTL_SSH_ADDRESSES=$/m);
    expect(box).toMatch(/^GPUCTL_SSH_ADDRESSES=198\.51\.100\./m);
  });

  it("joins the network as a resource of its own, which goes before the subnet does", async () => {
    const { resources } = await runStack("hetzner-cpu", exampleConfig("hetzner-cpu"));
    const joined = one(resources, "staging-1-network", "ServerNetwork");
    expect(joined.dependsOn).toEqual(expect.arrayContaining(["network-cloud", "staging-1"]));
    expect(joined.deleteBeforeReplace).toBe(true);
    expect(joined.inputs["ip"]).toMatch(/^10\.20\.1\.\d+$/);
  });

  it("is met by the key of its user data once, and by the key that it made itself ever after", async () => {
    const { resources, inventory } = await runStack("hetzner-cpu", exampleConfig("hetzner-cpu"));
    const contact = one(resources, "staging-1-first-contact", "Command");
    expect(keyOf(contact)).toBe("ecdsa-sha2-nistp256 AAAAE2VjZHNh");
    expect(contact.ignoreChanges).toEqual(["connection", "create", "update", "stdin"]);
    for (const name of ["forget-first-key", "operators", "mount", "prepare", "verify"])
      expect(keyOf(one(resources, `staging-1-${name}`, "Command")), name).toBe(hostKeyOfServer);
    expect(one(resources, "staging-1-prepare", "Command").dependsOn).toContain("staging-1-forget-first-key");
    expect(inventory.nodes["staging-1"]?.hostKeys).toEqual([hostKeyOfServer]);
  });

  it("has its one-time key made without showing it, and never made again", async () => {
    const { resources } = await runStack("hetzner-cpu", exampleConfig("hetzner-cpu"));
    const key = one(resources, "staging-1-first-key", "Command");
    expect(key.inputs["logging"]).toBe("none");
    expect(key.secretOutputs).toContain("stdout");
    expect(key.ignoreChanges).toContain("create");
  });

  it("keeps address and volume, protected against this program and against everybody else, until the stack says otherwise", async () => {
    const guarded = (resources: Registered[]) =>
      [one(resources, "staging-1-ip", "PrimaryIp"), one(resources, "staging-1-models", "Volume")].map(({ protect, inputs }) => [
        protect,
        inputs["deleteProtection"],
      ]);
    const config = exampleConfig("hetzner-cpu");
    expect(guarded((await runStack("hetzner-cpu", config)).resources)).toEqual([
      [true, true],
      [true, true],
    ]);
    const lifted = await runStack("hetzner-cpu", { ...config, "gpuctl:protect": "false" });
    expect(guarded(lifted.resources)).toEqual([
      [false, false],
      [false, false],
    ]);
  });

  it("with a volume has the stack say what puts data on it", async () => {
    const { dataDirectory } = await runStack("hetzner-cpu", exampleConfig("hetzner-cpu"));
    expect(dataDirectory).toBe("/srv/gpuctl");
    expect((await runStack("robot-gex", exampleConfig("robot-gex"))).dataDirectory).toBeUndefined();
  });

  it("mounts its volume again when that has grown", async () => {
    const config = exampleConfig("hetzner-cpu");
    const nodes = structuredClone(config["gpuctl:nodes"]) as { "staging-1": { volume: { sizeGB: number } } };
    const triggers = async () => {
      const { resources } = await runStack("hetzner-cpu", { ...config, "gpuctl:nodes": nodes });
      return one(resources, "staging-1-mount", "Command").inputs["triggers"] as string[];
    };
    const before = await triggers();
    nodes["staging-1"].volume.sizeGB += 50;
    const after = await triggers();
    expect([before.at(-1), after.at(-1)]).toEqual(["50", "100"]);
  });

  it("and all that belongs to it carries the labels by which strays are found", async () => {
    const { resources } = await runStack("hetzner-cpu", exampleConfig("hetzner-cpu"));
    const labelled = resources.filter(({ type }) => /^hcloud:.*(?:Server|Network|Firewall|Volume|PrimaryIp|SshKey)$/.test(type));
    const own = labelled.filter(({ type }) => !type.includes("serverNetwork"));
    expect(own).toHaveLength(6);
    for (const { name, inputs, provider } of own) {
      const labels = { "managed-by": "gpuctl", "gpuctl-project": "shop", "gpuctl-stack": "hetzner-cpu" };
      expect(inputs["labels"], name).toMatchObject(labels);
      expect(provider, name).toBe("hcloud");
    }
  });

  it("is spoken for by a provider whose token, address and pace come from the stack", async () => {
    const settings = { "hcloud:endpoint": "http://127.0.0.1:8080/v1", "hcloud:pollInterval": "10ms" };
    const { resources } = await runStack("hetzner-cpu", { ...exampleConfig("hetzner-cpu"), ...settings });
    const { inputs, secret } = one(resources, "hcloud", "hcloud");
    expect(inputs).toMatchObject({ endpoint: "http://127.0.0.1:8080/v1", pollInterval: "10ms", token: "t".repeat(64) });
    expect(secret).toEqual(["token"]);
  });
});

describe("an adopted box", () => {
  it("is looked at, prepared, verified in this order, and cleaned last of all when it is given back", async () => {
    const { resources } = await runStack("adopted-t4", exampleConfig("adopted-t4"));
    expect(one(resources, "gpu-1-preflight", "Command").dependsOn).toEqual([]);
    expect(one(resources, "gpu-1-box", "Command").dependsOn).toEqual(["gpu-1-preflight"]);
    expect(one(resources, "gpu-1-removal", "Command").dependsOn).toEqual(["gpu-1-box"]);
    expect(one(resources, "gpu-1-prepare", "Command").dependsOn).toEqual(["gpu-1-preflight", "gpu-1-removal"]);
    expect(one(resources, "gpu-1-verify", "Command").dependsOn).toEqual(["gpu-1-prepare"]);
    const { stdin: removing } = one(resources, "gpu-1-removal", "Command").inputs;
    expect(removing).toContain("prepare-host.sh --remove");
    expect(removing).toContain("\nGPUCTL_OWNER='adopted-t4/gpu-1'\n");
    expect(one(resources, "gpu-1-prepare", "Command").inputs["stdin"]).toMatch(/host\/owner.*\nadopted-t4\/gpu-1\n/);
  });

  it("is prepared again when the script changes, and gets the script unchanged", async () => {
    const { resources } = await runStack("adopted-t4", exampleConfig("adopted-t4"));
    const { text, sha256 } = hostScript();
    const { inputs } = one(resources, "gpu-1-prepare", "Command");
    expect(inputs["triggers"]).toContain(sha256);
    expect(inputs["stdin"]).toContain(`\n${text}`);
    expect(inputs["stdin"]).toContain("\nGPUCTL_GPU=require\n");
  });

  it("is entered with the key of the stack where there is one, and through sudo where the user is not root", async () => {
    const secrets = { "gpuctl:sshPrivateKey": privateKey, "gpuctl:k3sToken": "K10secret" };
    const { resources } = await runStack("k3s-gpu-pool", exampleConfig("k3s-gpu-pool"), secrets);
    const { inputs } = one(resources, "gpu-2-prepare", "Command");
    expect(inputs["create"]).toBe("sudo -n bash -s");
    expect(inputs["connection"]).toMatchObject({ user: "ubuntu", privateKey });
    expect(one(resources, "gpu-1-prepare", "Command").inputs["create"]).toBe("bash -s");
  });

  it("whose stack names no app lets nobody in: a list of nobody is not the same as no list", async () => {
    const { "gpuctl:app": _, ...config } = exampleConfig("adopted-t4");
    const { resources } = await runStack("adopted-t4", config);
    expect(one(resources, "gpu-1-prepare", "Command").inputs["stdin"]).toContain("\nGPUCTL_APP_ADDRESSES=nobody\n");
  });

  it("of Robot gets the VLAN of the vSwitch after it was looked at and before it is prepared, with frames that it can carry", async () => {
    const { resources, inventory } = await runStack("robot-gex", exampleConfig("robot-gex"));
    const subnet = one(resources, "network-vswitch", "NetworkSubnet");
    expect(subnet.inputs).toMatchObject({
      type: "vswitch",
      vswitchId: 60123,
      ipRange: "10.20.2.0/24",
      networkZone: "eu-central",
    });
    expect(one(resources, "network", "Network").inputs["exposeRoutesToVswitch"]).toBe(true);
    const link = one(resources, "gex-1-vswitch", "Command");
    expect(link.inputs["stdin"]).toContain("mtu 1400 up");
    expect(link.dependsOn, "nothing is changed before the box was looked at").toEqual(["gex-1-preflight", "gex-1-removal"]);
    expect(one(resources, "gex-1-prepare", "Command").dependsOn).toEqual(["gex-1-preflight", "gex-1-removal", "gex-1-vswitch"]);
    expect(one(resources, "gex-1-vswitch-removal", "Command").dependsOn).toEqual(["gex-1-box", "network-vswitch"]);
    expect(one(resources, "gex-1-removal", "Command").dependsOn).toEqual(["gex-1-box", "gex-1-vswitch-removal"]);
    expect(inventory.nodes["gex-1"]?.privateAddress).toBe("10.20.2.10");
    // Each host lets the other in: one of them may be the ingress.
    expect(one(resources, "app-1-prepare", "Command").inputs["stdin"]).toContain(
      "\nGPUCTL_APP_ADDRESSES=10.20.1.0/24,10.20.2.10\n",
    );
  });
});

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

describe("a configuration that cannot work", () => {
  it("ends the program with every problem at once, and with nothing made", async () => {
    const config = exampleConfig("adopted-t4");
    const nodes = { "gpu-1": { kind: "adopted", host: "203.0.113.20" }, "gpu-2": { kind: "hcloud", serverType: "cx33" } };
    const wrong = { ...config, "gpuctl:nodes": nodes, "gpuctl:operater": "x" };
    await expect(runStack("adopted-t4", wrong)).rejects.toThrow(
      /4 problems.*gpuctl:nodes\.gpu-1\.hostKey.*gpuctl:nodes\.gpu-2\.location.*gpuctl:operater.*did you mean "operators".*gpuctl:network/s,
    );
  });
});

const remote = (resources: Registered[]) => resources.filter(({ type }) => type === "command:remote:Command");
const keyOf = ({ inputs }: Registered) => (inputs["connection"] as { hostKey: string }).hostKey;

function one(resources: Registered[], name: string, type: string): Registered {
  const found = resources.filter((resource) => resource.name === name && resource.type.split(":").at(-1) === type);
  expect(found, `${type} ${name}`).toHaveLength(1);
  return found[0]!;
}
