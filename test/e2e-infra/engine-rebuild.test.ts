/** What happens to a server later: another operator's key, and being made anew on request, with its address and its volume. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inventorySchema } from "../../cli/src/domain/inventory.js";
import { ExampleStack } from "../support/pulumi-engine/example.js";

describe("a server in its later life", () => {
  let stack: ExampleStack;

  beforeAll(async () => {
    stack = await ExampleStack.start("hetzner-cpu");
    await stack.project.must("up");
  }, 1_800_000);
  afterAll(() => stack.stop());

  test("is not met for a first time again when the operator has a new key: the one-time key is gone from it", async () => {
    stack.hosts.since();
    const other = "-----BEGIN OPENSSH PRIVATE KEY-----\nYW5vdGhlcg==\n-----END OPENSSH PRIVATE KEY-----\n";
    await stack.must("config", "set", "--secret", "gpuctl:sshPrivateKey", "--", other);
    const steps = await stack.project.must("up");
    expect(steps.filter(({ op }) => op === "replace" || op === "delete")).toEqual([]);
    expect(stack.hosts.since().map((visit) => visit.split(" ")[0])).not.toContain("first-contact");
  });

  test("loses the keys of operators that leave the list, by SSH and without another server", async () => {
    stack.hosts.since();
    const successor = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBmJ2bQyq2pWl4mJH5yqv0mFQq8ZkIYwF8oXc0o7qk1R successor";
    await stack.set("operators.keys[0]", successor);
    const steps = await stack.project.must("up");
    expect(steps.filter(({ type, op }) => type.startsWith("hcloud:") && op !== "same")).toEqual([]);
    const visit = stack.hosts.visits.find(({ script }) => script === "operators");
    expect(visit?.program).toContain(`GPUCTL_OPERATORS='${successor}'\n`);
    expect(stack.hosts.since().map((one) => one.split(" ")[0])).toEqual(["operators", "prepare", "verify"]);
  });

  test("that is rebuilt comes with the new image and a key of its own, and finds its address and its volume again", async () => {
    const address = async () => inventorySchema.parse(await stack.inventory()).nodes["staging-1"]!.host;
    const [before, idBefore] = [await address(), stack.hcloud.world.list("servers")[0]!.id];
    const volumes = stack.hcloud.world.list("volumes").map(({ id }) => id);
    await stack.set("nodes.staging-1.image", "debian-13");

    await stack.project.must("destroy", ["--target", "**staging-1-first-key", "--target-dependents"]);
    expect(stack.hcloud.world.list("servers")).toEqual([]);
    expect(stack.hcloud.world.list("volumes").map(({ id }) => id)).toEqual(volumes);

    await stack.project.must("up");
    const [server] = stack.hcloud.world.list("servers");
    expect(server!.id).not.toBe(idBefore);
    expect(server).toMatchObject({ image: { name: "debian-13" } });
    expect(await address()).toBe(before);
    const visits = stack.hosts.visits.map(({ script, hostKey }) => ({ script, hostKey }));
    expect(visits.map(({ script }) => script)).toEqual([
      "first-contact",
      "forget-first-key",
      "operators",
      "mount-volume",
      "prepare",
      "verify",
    ]);
    const sent = stack.hcloud.requests
      .filter(({ method, path }) => method === "POST" && path === "/servers")
      .map(({ body }) => body["user_data"]);
    expect(sent).toHaveLength(2);
    expect(sent[0]).not.toBe(sent[1]);
  });
});
