/** The example stack `robot-gex`: a dedicated server and a cloud server in one network over a vSwitch, under the real engine. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inventorySchema } from "../../cli/src/domain/inventory.js";
import { ExampleStack } from "../support/pulumi-engine/example.js";

const gex = "198.51.100.40";

describe("a stack of a dedicated server and a cloud server", () => {
  let stack: ExampleStack;

  beforeAll(async () => {
    stack = await ExampleStack.start("robot-gex");
  }, 1_800_000);
  afterAll(() => stack.stop());

  test("a preview of the empty stack shows what would be made, and makes and visits nothing", async () => {
    const { code, steps, stdout, stderr } = await stack.project.operate("preview");
    expect(code, stdout + stderr).toBe(0);
    expect(new Set(steps.map(({ op }) => op))).toEqual(new Set(["create"]));
    expect(steps.map(({ name }) => name)).toEqual(expect.arrayContaining(["gex-1-vswitch", "network-vswitch", "app-1"]));
    expect(stack.hosts.visits).toEqual([]);
    expect(stack.hcloud.requests.filter(({ method }) => method !== "GET")).toEqual([]);
    expect(stack.done()).toEqual([]);
  });

  test("up couples the vSwitch before the dedicated server joins it, and prepares both", async () => {
    await stack.project.must("up");
    const done = stack.done();
    expect(done.indexOf("create network-vswitch")).toBeGreaterThan(done.indexOf("create network-cloud"));
    expect(done.indexOf("create gex-1-vswitch")).toBeGreaterThan(done.indexOf("create network-vswitch"));
    const [network] = stack.hcloud.world.list("networks");
    expect(network).toMatchObject({ expose_routes_to_vswitch: true });
    expect(network?.["subnets"]).toContainEqual(expect.objectContaining({ type: "vswitch", vswitch_id: 60123 }));
    const visits = [...stack.hosts.visits];
    expect(stack.hosts.since().filter((visit) => visit.endsWith(gex))).toEqual([
      `preflight ${gex}`,
      `vswitch-up ${gex}`,
      `prepare ${gex}`,
      `verify ${gex}`,
    ]);
    // The largest frame that passes a vSwitch.
    expect(visits.find(({ script }) => script === "vswitch-up")?.program).toMatch(/mtu 1400/);
  });

  test("both are in the inventory, each with its address in the private network", async () => {
    const { nodes, network } = inventorySchema.parse(await stack.inventory());
    expect(network).toEqual({ range: "10.20.0.0/16" });
    expect(nodes["gex-1"]).toMatchObject({ kind: "adopted", privateAddress: "10.20.2.10", gpus: { expected: 1 } });
    expect(nodes["app-1"]).toMatchObject({ kind: "hcloud", gpus: { expected: 0 } });
    const [server] = stack.hcloud.world.list("servers");
    expect((server?.["private_net"] as { ip: string }[])[0]?.ip).toBe(nodes["app-1"]?.privateAddress);
  });

  test("a second up changes nothing and visits nobody", async () => {
    await stack.project.must("up", ["--expect-no-changes"]);
    expect(stack.hosts.visits).toEqual([]);
    stack.done();
  });

  test("operators from elsewhere change the provider's firewall in place, and are told to the box that guards itself alone", async () => {
    await stack.set("operators.addresses[0]", "198.51.100.99/32");
    const [firewall] = stack.hcloud.world.list("firewalls");
    const steps = await stack.project.must("up");
    expect(steps.filter(({ type }) => type.startsWith("hcloud:")).filter(({ op }) => op !== "same")).toMatchObject([
      { op: "update", name: "firewall", because: ["rules"] },
    ]);
    expect(JSON.stringify(stack.hcloud.world.list("firewalls")[0])).toContain("198.51.100.99/32");
    expect(stack.hcloud.world.list("firewalls")[0]?.id).toBe(firewall?.id);
    expect(stack.hosts.since()).toEqual([`prepare ${gex}`, `verify ${gex}`]);
  });

  test("destroy undoes the VLAN and the host's part before the network goes; the dedicated server stays", async () => {
    await stack.set("protect", "false");
    await stack.project.must("up");
    stack.hosts.since();
    stack.done();
    await stack.project.must("destroy");
    expect(stack.hosts.since()).toEqual([`remove-host ${gex}`, `vswitch-down ${gex}`]);
    const deleted = stack.done();
    expect(deleted.indexOf("delete network-vswitch")).toBeGreaterThan(deleted.indexOf("delete gex-1-vswitch-removal"));
    for (const kind of ["servers", "networks", "firewalls", "primary_ips", "ssh_keys"] as const)
      expect(stack.hcloud.world.list(kind)).toEqual([]);
  });
});
