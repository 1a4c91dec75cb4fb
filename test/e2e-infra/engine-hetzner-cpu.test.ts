/** The example stack `hetzner-cpu` from nothing to nothing, under the real engine; what a change does is read from its steps. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inventorySchema } from "../../cli/src/domain/inventory.js";
import { hostKeyOf } from "../support/pulumi-engine/doubles/hosts.js";
import { ExampleStack, operatorKey } from "../support/pulumi-engine/example.js";

const server = "hcloud:index/server:Server";

describe("a stack of one server without a GPU", () => {
  let stack: ExampleStack;

  beforeAll(async () => {
    stack = await ExampleStack.start("hetzner-cpu");
  }, 1_800_000);
  afterAll(() => stack.stop());

  test("a preview shows everything that would be made, and makes nothing", async () => {
    const { code, steps, stderr } = await stack.project.operate("preview");
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(new Set(steps.map(({ op }) => op))).toEqual(new Set(["create"]));
    expect(steps.filter(({ type }) => type === server)).toHaveLength(1);
    expect(stack.hcloud.requests.filter(({ method }) => method !== "GET")).toEqual([]);
    expect(stack.hosts.visits).toEqual([]);
  });

  test("up makes it, meets the host by the key of its user data and goes on with the host's own", async () => {
    await stack.project.must("up");
    const { visits } = stack.hosts;
    expect(visits.map(({ script }) => script)).toEqual([
      "first-contact",
      "forget-first-key",
      "operators",
      "mount-volume",
      "prepare",
      "verify",
    ]);
    const [made] = stack.hcloud.world.list("servers");
    const { ip } = (made?.["public_net"] as { ipv4: { ip: string } }).ipv4;
    expect(new Set(visits.map(({ host }) => host))).toEqual(new Set([ip]));
    const [first, ...later] = visits;
    expect(first?.hostKey).toMatch(/^ecdsa-sha2-nistp256 /);
    expect(new Set(later.map(({ hostKey }) => hostKey))).toEqual(new Set([hostKeyOf(ip)]));
    expect(made?.labels).toMatchObject({ "managed-by": "gpuctl", "gpuctl-project": "shop", "gpuctl-stack": "hetzner-cpu" });
    stack.hosts.since();
    stack.done();
  });

  test("its inventory is one that `gpuctl deploy` reads, with the host's own key and no secret", async () => {
    const inventory = inventorySchema.parse(await stack.inventory());
    const { host, hostKeys, ...node } = inventory.nodes["staging-1"]!;
    expect(node).toMatchObject({ kind: "hcloud", location: "fsn1", gpus: { expected: 0 } });
    expect(hostKeys).toEqual([hostKeyOf(host)]);
    expect(inventory.stack).toBe("hetzner-cpu");
  });

  test("neither the state nor the configuration holds a secret in clear text", () => {
    const [line] = operatorKey.split("\n").slice(1);
    const kept = [stack.state(), stack.project.read("infra/stacks/Pulumi.hetzner-cpu.yaml")];
    for (const text of kept) {
      expect(text).not.toContain(stack.hcloud.token);
      expect(text).not.toContain(line);
      // The private half of the one-time key, and of any other.
      expect(text).not.toContain("PRIVATE KEY");
    }
    expect(stack.state()).toContain(server);
  });

  test("a second up changes nothing and visits nobody", async () => {
    const steps = await stack.project.must("up", ["--expect-no-changes"]);
    expect(new Set(steps.map(({ op }) => op))).toEqual(new Set(["same"]));
    expect(stack.hosts.visits).toEqual([]);
    expect(stack.done()).toEqual([]);
  });

  test("a new revision and another image prepare the host again by SSH and leave the server alone", async () => {
    await stack.set("revision", "2");
    await stack.set("nodes.staging-1.image", "debian-13");
    const { id } = stack.hcloud.world.list("servers")[0]!;
    const steps = await stack.project.must("up");
    expect(steps.find(({ type }) => type === server)).toMatchObject({ op: "same" });
    expect(stack.hosts.since().map((visit) => visit.split(" ")[0])).toEqual(["prepare", "verify"]);
    expect(stack.hcloud.world.list("servers").map((one) => one.id)).toEqual([id]);
    stack.done();
  });

  test("another server type is changed in place, another location is not promised to be", async () => {
    await stack.set("nodes.staging-1.serverType", "cx33");
    const { steps } = await stack.project.operate("preview");
    expect(steps.find(({ type }) => type === server)).toMatchObject({ op: "update", because: ["serverType"] });
    const { id } = stack.hcloud.world.list("servers")[0]!;
    await stack.project.must("up");
    expect(stack.hcloud.world.list("servers")[0]).toMatchObject({ id, server_type: { name: "cx33" }, status: "running" });
    await stack.set("nodes.staging-1.location", "nbg1");
    const moved = await stack.project.operate("preview");
    expect(moved.steps.filter(({ type, op }) => type === server && op === "replace")).toHaveLength(1);
    // The volume would have to move too, and is protected: what would lose it is refused before anything is done.
    expect(moved.code).not.toBe(0);
    expect(moved.stdout + moved.stderr).toMatch(/protect/);
    await stack.set("nodes.staging-1.location", "fsn1");
    stack.hosts.since();
    stack.done();
  });

  test("a server that somebody deleted is found by a refresh, and made again with its address", async () => {
    const before = inventorySchema.parse(await stack.inventory()).nodes["staging-1"]!.host;
    await stack.hcloudCall("DELETE", `/servers/${stack.hcloud.world.list("servers")[0]!.id}`);
    const refreshed = await stack.project.operate("refresh");
    expect({ code: refreshed.code, stderr: refreshed.stderr }).toMatchObject({ code: 0 });
    expect(stack.state()).not.toContain(`"type": "${server}"`);
    await stack.project.must("up");
    expect(inventorySchema.parse(await stack.inventory()).nodes["staging-1"]!.host).toBe(before);
    expect(stack.hosts.since().map((visit) => visit.split(" ")[0])).toEqual([
      "first-contact",
      "forget-first-key",
      "operators",
      "mount-volume",
      "prepare",
      "verify",
    ]);
    stack.done();
  });

  test("pulumi destroy by hand leaves volume and address while they are protected, and nothing else", async () => {
    const { code, stdout, stderr } = await stack.project.operate("destroy");
    expect(code).not.toBe(0);
    expect(stdout + stderr).toMatch(/cannot be deleted\s+because it is protected/);
    // Pulumi notices it on the way, which is why `gpuctl infra destroy` looks first.
    expect(stack.hcloud.world.list("servers")).toEqual([]);
    expect(stack.hcloud.world.list("volumes")).toHaveLength(1);
    expect(stack.hcloud.world.list("primary_ips")).toHaveLength(1);
  });

  test("without protection, destroy empties the project: servers before their subnet, that before its network", async () => {
    await stack.set("protect", "false");
    await stack.project.must("up");
    stack.done();
    await stack.project.must("destroy");
    const deleted = stack.done();
    const position = (name: string): number => deleted.findIndex((one) => one === `delete ${name}`);
    expect(position("staging-1")).toBeGreaterThan(-1);
    expect(position("staging-1")).toBeLessThan(position("network-cloud"));
    expect(position("network-cloud")).toBeLessThan(position("network"));
    for (const kind of ["servers", "volumes", "networks", "firewalls", "primary_ips", "ssh_keys"] as const)
      expect(stack.hcloud.world.list(kind)).toEqual([]);
  });
});
