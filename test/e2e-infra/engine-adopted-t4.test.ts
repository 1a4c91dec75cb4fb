/** The example stack `adopted-t4`: a box that somebody has, under the real engine; hosts and provider are doubles. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inventorySchema } from "../../cli/src/domain/inventory.js";
import { ExampleStack } from "../support/pulumi-engine/example.js";

const box = "203.0.113.20";
const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOcsmyZX0NJ8pZxlI8dRk7mJhZ1mQxQZ5q6oQXW0Yh3v";

describe("a stack of one adopted box", () => {
  let stack: ExampleStack;

  beforeAll(async () => {
    stack = await ExampleStack.start("adopted-t4");
  }, 1_800_000);
  afterAll(() => stack.stop());

  test("a preview of the empty stack shows what would be made, and makes and visits nothing", async () => {
    const { code, steps, stdout, stderr } = await stack.project.operate("preview");
    expect(code, stdout + stderr).toBe(0);
    expect(new Set(steps.map(({ op }) => op))).toEqual(new Set(["create"]));
    expect(steps.map(({ name }) => name)).toEqual(expect.arrayContaining(["gpu-1-preflight", "gpu-1-prepare", "gpu-1-removal"]));
    expect(stack.hosts.visits).toEqual([]);
    expect(stack.hcloud.requests.filter(({ method }) => method !== "GET")).toEqual([]);
    expect(stack.done()).toEqual([]);
  });

  test("a preparation that fails keeps what was done before it, and the next up goes on from there", async () => {
    stack.hosts.failing.push("prepare");
    const { code, stdout, stderr } = await stack.project.operate("up");
    expect(code).not.toBe(0);
    expect(stdout + stderr).toContain("prepare was told to fail");
    expect(stack.hosts.since()).toEqual([`preflight ${box}`, `prepare ${box}`]);
    await stack.project.must("up");
    expect(stack.hosts.since()).toEqual([`prepare ${box}`, `verify ${box}`]);
  });

  test("the inventory carries the key that the operator confirmed, and the card that is expected", async () => {
    const { nodes } = inventorySchema.parse(await stack.inventory());
    expect(nodes["gpu-1"]).toMatchObject({
      kind: "adopted",
      host: box,
      hostKeys: [key],
      privateAddress: "10.0.0.5",
      gpus: { expected: 1, product: "Tesla T4", memory: 15_360 },
    });
  });

  test("every connection has to show that key, and values go by stdin", async () => {
    await stack.set("revision", "2");
    const steps = await stack.project.must("up");
    expect(steps.filter(({ op }) => op === "replace").map(({ name }) => name)).toEqual(["gpu-1-prepare", "gpu-1-verify"]);
    const visits = [...stack.hosts.visits];
    expect(stack.hosts.since()).toEqual([`prepare ${box}`, `verify ${box}`]);
    for (const { hostKey, command } of visits) expect({ hostKey, command }).toEqual({ hostKey: key, command: "bash -s" });
    expect(visits[0]?.program).toContain("GPUCTL_REVISION=2");
  });

  test("a second up changes nothing and visits nobody", async () => {
    await stack.project.must("up", ["--expect-no-changes"]);
    expect(stack.hosts.visits).toEqual([]);
  });

  test("another key of the same box replaces nothing and takes nothing away", async () => {
    const other = key.replace("Yh3v", "Yh3w");
    await stack.set("nodes.gpu-1.hostKey", other);
    const { steps } = await stack.project.operate("preview");
    expect(steps.filter(({ op }) => op === "replace" || op === "delete")).toEqual([]);
    await stack.set("nodes.gpu-1.hostKey", key);
  });

  test("the same box at another address is looked at and prepared there, and nothing is taken away", async () => {
    const moved = "203.0.113.77";
    await stack.set("nodes.gpu-1.host", moved);
    const steps = await stack.project.must("up");
    expect(steps.filter(({ op }) => op === "update").map(({ name }) => name)).toEqual(["gpu-1-box", "gpu-1-removal"]);
    expect(stack.hosts.since()).toEqual([`preflight ${moved}`, `prepare ${moved}`, `verify ${moved}`]);
    await stack.set("nodes.gpu-1.host", box);
    await stack.project.must("up");
    stack.hosts.since();
  });

  test("another box under the same name is refused, and the first one stays known, however often that is tried", async () => {
    await stack.set("nodes.gpu-1.host", "203.0.113.99");
    await stack.set("nodes.gpu-1.hostKey", key.replace("Yh3v", "Yh3x"));
    for (const visits of [["preflight 203.0.113.99"], []]) {
      const { code, stdout, stderr } = await stack.project.operate("up");
      expect(code).not.toBe(0);
      expect(stdout + stderr).toContain(`gpu-1 was the box at ${box}:22, and would become another one`);
      // It is looked at, which changes nothing there.
      expect(stack.hosts.since()).toEqual(visits);
    }
    // Neither does it become another one by halves.
    expect(await stack.inventory()).toMatchObject({ nodes: { "gpu-1": { host: box, hostKeys: [key] } } });
    await stack.set("nodes.gpu-1.host", box);
    await stack.set("nodes.gpu-1.hostKey", key);
    await stack.project.must("up");
    stack.hosts.since();
  });

  test("a node that is renamed keeps its box: what takes away under the old name comes last, and is told whose it was", async () => {
    const file = "infra/stacks/Pulumi.adopted-t4.yaml";
    stack.project.edit(file, "gpu-1:", "gpu-2:");
    await stack.project.must("up");
    const visits = [...stack.hosts.visits];
    expect(stack.hosts.since()).toEqual([`preflight ${box}`, `prepare ${box}`, `verify ${box}`, `remove-host ${box}`]);
    const said = (script: string) => visits.find((visit) => visit.script === script)?.program;
    expect(said("prepare")).toContain("\nadopted-t4/gpu-2\n");
    expect(said("remove-host")).toContain("\nGPUCTL_OWNER='adopted-t4/gpu-1'\n");
    stack.project.edit(file, "gpu-2:", "gpu-1:");
    await stack.project.must("up");
    stack.hosts.since();
  });

  test("destroy takes away what was made on the box, once and last, and asks the provider for nothing", async () => {
    stack.done();
    await stack.project.must("destroy");
    expect(stack.hosts.since()).toEqual([`remove-host ${box}`]);
    // What goes after it is nothing on the box.
    expect(stack.done().slice(-3)).toEqual(["delete gpu-1-removal", "delete gpu-1-box", "delete gpu-1-preflight"]);
    expect(stack.hcloud.requests).toEqual([]);
  });
});
