import { describe, expect, it } from "vitest";
import { keyOf, one } from "../../support/infra/resources.js";
import { exampleConfig, hostKeyOfServer, runStack, unusableKey, type Registered } from "../../support/infra/stack-under-mocks.js";

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
