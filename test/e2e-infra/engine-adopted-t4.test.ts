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

  test("destroy takes away what was made on the box, once and last, and asks the provider for nothing", async () => {
    stack.done();
    await stack.project.must("destroy");
    expect(stack.hosts.since()).toEqual([`remove-host ${box}`]);
    expect(stack.done().at(-1)).toBe("delete gpu-1-removal");
    expect(stack.hcloud.requests).toEqual([]);
  });
});
