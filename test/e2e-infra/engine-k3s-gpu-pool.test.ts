/** The example stack `k3s-gpu-pool`: two boxes that become agents of a k3s cluster, under the real engine. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { losses } from "../../cli/src/domain/infra/losses.js";
import { parsePreview } from "../../cli/src/domain/infra/preview.js";
import { inventorySchema } from "../../cli/src/domain/inventory.js";
import { ExampleStack } from "../support/pulumi-engine/example.js";

const token = "K10c0ffee::server:of-the-tests";
const hosts = ["203.0.113.20", "203.0.113.21"];

describe("a stack of two agents and what makes their cards usable", () => {
  let stack: ExampleStack;

  beforeAll(async () => {
    stack = await ExampleStack.start("k3s-gpu-pool", [`gpuctl:k3sToken=${token}`]);
  }, 1_800_000);
  afterAll(() => stack.stop());

  test("a preview of the empty stack shows what would be made, and makes and visits nothing", async () => {
    const { code, steps, stdout, stderr } = await stack.project.operate("preview");
    expect(code, stdout + stderr).toBe(0);
    expect(new Set(steps.map(({ op }) => op))).toEqual(new Set(["create"]));
    expect(steps.map(({ name }) => name)).toEqual(expect.arrayContaining(["gpu-2-prepare", "pool-gpu-2", "gpu-device-plugin"]));
    expect(stack.hosts.visits).toEqual([]);
    expect(stack.hcloud.requests.filter(({ method }) => method !== "GET")).toEqual([]);
    expect(stack.done()).toEqual([]);
    expect(stack.kubectl()).toEqual([]);
  });

  test("every host is prepared before it joins, and charts come when all have joined", async () => {
    await stack.project.must("up");
    const visits = [...stack.hosts.visits];
    const order = stack.hosts.since();
    for (const host of hosts)
      expect(order.filter((visit) => visit.endsWith(host)).map((visit) => visit.split(" ")[0])).toEqual([
        "preflight",
        "prepare",
        "verify",
        "join-k3s",
      ]);
    const done = stack.done();
    const joined = Math.max(...["pool-gpu-1", "pool-gpu-2"].map((name) => done.indexOf(`create ${name}`)));
    expect(done.indexOf("create gpu-device-plugin")).toBeGreaterThan(joined);
    // Charts would wait for their pods in vain.
    expect(stack.kubectl()).toEqual(["--context shop get runtimeclass nvidia"]);
    // A user that is not root asks for it without a password.
    expect(new Set(visits.filter(({ user }) => user === "ubuntu").map(({ command }) => command))).toEqual(
      new Set(["sudo -n bash -s"]),
    );
    expect([...stack.clusters.keys()].every((key) => key.startsWith("shop "))).toBe(true);
    expect([...stack.clusters.keys()].filter((key) => key.includes("Release"))).toHaveLength(2);
  });

  test("the cluster's token reaches the hosts and stands nowhere in clear text", () => {
    const kept = [stack.state(), stack.project.read("infra/stacks/Pulumi.k3s-gpu-pool.yaml"), stack.kubectl().join("\n")];
    for (const text of kept) expect(text).not.toContain(token);
    expect(stack.state()).toContain("command:remote:Command");
  });

  test("the inventory names the cluster and how its nodes are found", async () => {
    const { cluster, nodes } = inventorySchema.parse(await stack.inventory());
    expect(cluster).toMatchObject({ context: "shop", namespace: "retrieval", runtimeClass: "nvidia", replicasPerGpu: 3 });
    expect(Object.keys(nodes)).toEqual(["gpu-1", "gpu-2"]);
  });

  test("a second up changes nothing and visits nobody", async () => {
    await stack.project.must("up", ["--expect-no-changes"]);
    expect(stack.hosts.visits).toEqual([]);
    stack.done();
  });

  test("fewer pods on a card change the chart in place and no node", async () => {
    await stack.set("cluster.runtime.replicasPerGpu", "2");
    const steps = await stack.project.must("up");
    expect(steps.filter(({ op }) => op !== "same").map(({ op, name }) => `${op} ${name}`)).toEqual(["update gpu-device-plugin"]);
    expect(stack.hosts.visits).toEqual([]);
    stack.done();
  });

  test("what a destroy would take away is told by the programs that the engine shows, whatever their names", async () => {
    await stack.set("protect", "false");
    await stack.project.must("up");
    const { stdout, stderr } = await stack.project.pulumi(["destroy", "--preview-only", "--json"]);
    const changes = parsePreview(stdout)?.changes.map((change) => ({ ...change, name: "anything" })) ?? [];
    const said = losses(changes.filter(({ type }) => type === "command:remote:Command")).map(({ consequence }) => consequence);
    const [box, agent] = [/^what gpuctl made there is taken away: account/, /^the k3s agent there ends/];
    const counts = [box, agent].map((words) => said.filter((text) => words.test(text)).length);
    expect({ counts, all: said.length }, stdout.slice(0, 2000) + stderr).toEqual({ counts: [2, 2], all: 4 });
  });

  test("destroy ends the agents before their nodes are forgotten and before the hosts' parts go", async () => {
    stack.hosts.since();
    stack.done();
    await stack.project.must("destroy");
    const left = stack.hosts.since();
    for (const host of hosts)
      expect(left.filter((visit) => visit.endsWith(host)).map((visit) => visit.split(" ")[0])).toEqual([
        "leave-k3s",
        "remove-host",
      ]);
    expect(stack.kubectl()).toEqual(
      expect.arrayContaining(["gpu-1", "gpu-2"].map((node) => `--context shop delete node ${node} --ignore-not-found`)),
    );
    const deleted = stack.done();
    expect(deleted.indexOf("delete pool-gpu-1-node")).toBeGreaterThan(deleted.indexOf("delete pool-gpu-1-removal"));
    expect([...stack.clusters.keys()]).toEqual([]);
  });
});
