/** The example stack `existing-cluster`, and configurations that are refused, under the real engine. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inventorySchema } from "../../cli/src/domain/inventory.js";
import { ExampleStack } from "../support/pulumi-engine/example.js";

const nodes = ["gpu-pool-a1", "gpu-pool-a2"];

describe("a stack in a cluster that somebody has", () => {
  let stack: ExampleStack;

  beforeAll(async () => {
    stack = await ExampleStack.start("existing-cluster");
    for (const node of nodes) stack.clusters.set(`production kubernetes:core/v1:Node /${node}`, {});
  }, 1_800_000);
  afterAll(() => stack.stop());

  test("a preview of the empty stack shows what would be made, and makes and visits nothing", async () => {
    const { code, steps, stdout, stderr } = await stack.project.operate("preview");
    expect(code, stdout + stderr).toBe(0);
    expect(new Set(steps.map(({ op }) => op))).toEqual(new Set(["create"]));
    expect(steps.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["pool-gpu-pool-a1-taint", "gpu-class", "gpu-device-plugin"]),
    );
    expect(stack.hosts.visits).toEqual([]);
    expect(stack.hcloud.requests.filter(({ method }) => method !== "GET")).toEqual([]);
    expect(stack.done()).toEqual([]);
    expect(stack.kubectl()).toEqual([]);
  });

  test("up marks the nodes and adds what lets pods ask for cards", async () => {
    await stack.project.must("up");
    const made = [...stack.clusters.keys()].filter((key) => !key.includes(":Node "));
    expect(made.map((key) => key.split(" ")[1]).sort()).toEqual([
      "kubernetes:core/v1:Namespace",
      "kubernetes:core/v1:Namespace",
      "kubernetes:core/v1:NodePatch",
      "kubernetes:core/v1:NodePatch",
      "kubernetes:helm.sh/v3:Release",
      "kubernetes:helm.sh/v3:Release",
      "kubernetes:node.k8s.io/v1:RuntimeClass",
      "kubernetes:scheduling.k8s.io/v1:PriorityClass",
    ]);
    expect(stack.kubectl()).toHaveLength(2);
    expect(stack.kubectl().every((line) => line.startsWith("--context production taint node gpu-pool-a"))).toBe(true);
  });

  test("the inventory is the cluster and no node", async () => {
    const inventory = inventorySchema.parse(await stack.inventory());
    expect(inventory.nodes).toEqual({});
    expect(inventory.cluster).toMatchObject({ context: "production", namespace: "retrieval", runtimeClass: "nvidia" });
  });

  test("a second up changes nothing", async () => {
    await stack.project.must("up", ["--expect-no-changes"]);
    stack.done();
  });

  test("a RuntimeClass that somebody else should have made is looked for, and its absence said, before anything is taken away", async () => {
    const kubectl = join(stack.project.folder, "bin/kubectl");
    const own = readFileSync(kubectl, "utf8");
    const absent = 'Error from server (NotFound): runtimeclasses.node.k8s.io "nvidia" not found';
    writeFileSync(
      kubectl,
      `#!/bin/sh\n[ "$*" = "--context production get runtimeclass nvidia" ] || exit 0\necho '${absent}' >&2\nexit 1\n`,
    );
    await stack.set("cluster.runtime.createRuntimeClass", "false");
    const { code, stdout, stderr } = await stack.project.operate("up");
    expect(code).not.toBe(0);
    expect(stdout + stderr).toContain(absent);
    expect(stdout + stderr).toContain("there is no RuntimeClass nvidia in this cluster");
    expect(stack.done()).toEqual([]);
    writeFileSync(kubectl, own);
    await stack.must("config", "rm", "--path", "gpuctl:cluster.runtime.createRuntimeClass");
    await stack.project.must("up", ["--expect-no-changes"]);
  });

  test("the GPU Operator in place of the plugin takes its chart away and brings its own", async () => {
    await stack.set("cluster.runtime.kind", "operator");
    await stack.project.must("up");
    const done = stack.done();
    expect(done).toContain("create gpu-operator");
    expect(done).toEqual(expect.arrayContaining(["delete gpu-device-plugin", "delete gpu-exporter"]));
  });

  test("a release that somebody took away comes back after a refresh", async () => {
    const [release] = [...stack.clusters.keys()].filter((key) => key.includes("Release"));
    stack.clusters.delete(release!);
    await stack.project.must("refresh");
    await stack.project.must("up");
    expect([...stack.clusters.keys()]).toContain(release);
    stack.done();
  });

  test("the namespace of the services stays until its protection is lifted", async () => {
    const guarded = (): boolean => {
      const kept = JSON.parse(stack.project.state("gpuctl", "existing-cluster")) as {
        checkpoint: { latest: { resources: { urn: string; protect?: boolean }[] } };
      };
      return kept.checkpoint.latest.resources.find(({ urn }) => urn.endsWith("::gpu-services"))?.protect === true;
    };
    expect(guarded()).toBe(true);
    await stack.set("protect", "false");
    await stack.project.must("up");
    expect(guarded()).toBe(false);
    stack.done();
  });

  test("a configuration with several mistakes is refused with all of them, before anything is asked or made", async () => {
    await stack.set("operators.addresses[0]", "0.0.0.0/0");
    await stack.set("operators.keys[0]", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJq1 operator");
    await stack.set("app[0]", "0.0.0.0/0");
    await stack.set("nodes.gpu-1.kind", "hcloud");
    await stack.set("nodes.gpu-1.serverType", "cx33");
    await stack.set("nodes.gpu-1.location", "fsn1");
    await stack.set("nodes.gpu-1.gpu.count", "1");
    const { code, stdout, stderr } = await stack.project.operate("up");
    const said = stdout + stderr;
    expect(code).not.toBe(0);
    expect(said).toContain("gpuctl:operators.addresses[0]: 0.0.0.0/0 opens SSH to the internet");
    expect(said).toContain("gpuctl:app[0]: 0.0.0.0/0 opens the services to the internet");
    expect(said).toContain("gpuctl:network: missing");
    expect(said).toContain("gpuctl:nodes.gpu-1: ");
    expect(said).not.toMatch(/^\s+at /m);
    expect(stack.done()).toEqual([]);
  });

  test("destroy takes away what the stack made; nodes and their cluster stay", async () => {
    await stack.project.must("destroy");
    expect([...stack.clusters.keys()]).toEqual(nodes.map((node) => `production kubernetes:core/v1:Node /${node}`));
    expect(stack.kubectl().filter((line) => line.endsWith(":NoSchedule-"))).toHaveLength(2);
  });
});
