import { describe, expect, it } from "vitest";
import { inventorySchema } from "../../../cli/src/domain/inventory.js";
import { gpuPodsWithoutLimits, openSsh, tokensInUserData, unprotected } from "../../../infra/policy/checks.js";
import { hostScript } from "../../../infra/scripts.js";
import { one, remote } from "../../support/infra/resources.js";
import { exampleConfig, exampleStacks, privateKey, runStack, type ExampleStack } from "../../support/infra/stack-under-mocks.js";

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
