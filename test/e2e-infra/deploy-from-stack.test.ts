/**
 * `pulumi up && gpuctl deploy` with nothing typed again: the real engine makes a stack of one box (what it sends there is answered
 * by a double), and the built command line deploys to a real host, of which gpuctl.yaml says nothing.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inventorySchema } from "../../cli/src/domain/inventory.js";
import { Bed } from "../support/bed/bed.js";
import { caddyImage, serviceImage } from "../support/bed/images.js";
import { must, run, type Ran } from "../support/bed/shell.js";
import { pinned } from "../support/bed/stack.js";
import { ExampleStack } from "../support/pulumi-engine/example.js";
import { hostKeyOf } from "../support/pulumi-engine/doubles/hosts.js";
import { repository, type JsonDocument } from "../support/sandbox.js";
import { until } from "../support/until.js";

const exampleBox = "203.0.113.20";

describe("a stack of one adopted box", () => {
  let bed: Bed;
  let stack: ExampleStack;
  let agent: ChildProcess;
  let images: string;

  beforeAll(async () => {
    const [services, caddy] = [await serviceImage(), await caddyImage()];
    bed = await Bed.start([{ name: "box" }]);
    const host = bed.host("box");
    images = `{ services: "${await pinned(bed, host, services)}", ingress: "${await pinned(bed, host, caddy)}" }`;
    stack = await ExampleStack.start("adopted-t4");
    agent = await agentWith(bed.clientKey, socket());
    write({});
    await describeBox();
  }, 1_800_000);
  afterAll(async () => {
    agent.kill();
    await stack.stop();
    await bed.stop();
  });

  const socket = (): string => join(stack.project.folder, "agent");

  /** The example's box becomes the one of the bed, which has no card, whatever the stack says. */
  async function describeBox(): Promise<void> {
    const { address } = bed.host("box");
    const file = "infra/stacks/Pulumi.adopted-t4.yaml";
    const text = stack.project.read(file);
    const about = text.replaceAll(exampleBox, "198.51.100.1").replace(/^ *hostKey: .*\n/m, "");
    writeFileSync(join(stack.project.folder, file), about.replace(/privateAddress: .*/, `privateAddress: ${address}`));
    await stack.set("deployUser", "deploy");
    await stack.set("servicePorts[0]", "18103");
    await stack.set("app[0]", address.replace(/\d+$/, "0/24"));
  }

  function write({ port = 18103, inventory = "stack adopted-t4" }: { port?: number; inventory?: string }): void {
    const text = `version: 1
project: shop
services: { index: { port: ${port} } }
environments:
  production:
    target: compose
    inventory: ${inventory}
    soak: 2s
    images: ${images}
`;
    writeFileSync(join(stack.project.folder, "gpuctl.yaml"), text);
  }

  const gpuctl = (...args: string[]): Promise<Ran> => {
    const env = {
      ...stack.project.env,
      NO_COLOR: "1",
      SSH_AUTH_SOCK: socket(),
      XDG_STATE_HOME: join(stack.project.folder, "own"),
    };
    const command = 'cd "$0" && exec "$@"';
    return run("/bin/sh", ["-c", command, stack.project.folder, "node", join(repository, "cli/bin/run.js"), ...args], {
      env,
      timeoutMs: 170_000,
    });
  };
  const json = async (...args: string[]): Promise<JsonDocument> => {
    const { stdout, stderr } = await gpuctl(...args, "--json");
    if (stdout === "") throw new Error(stderr);
    return JSON.parse(stdout) as JsonDocument;
  };
  test("gets its address and its host key by a fingerprint that somebody compared, and the rest of its file stays", async () => {
    const { address, hostKey } = bed.host("box");
    const add = ["host", "add", "gpu-1", "--host", address, "--stack", "adopted-t4"];
    const unsure = await json(...add);
    expect(unsure.error).toMatchObject({ exitCode: 5 });
    const step = unsure.error?.nextSteps?.find((each) => each.startsWith("gpuctl host add")) ?? "";
    const print = (await must("ssh-keygen", ["-lf", "-"], { input: hostKey })).split(" ")[1] ?? "";
    expect(step.replace(/ +#.*/, "")).toBe(`gpuctl ${add.join(" ")} --fingerprint ${print}`);
    const before = stack.project.read("infra/stacks/Pulumi.adopted-t4.yaml");
    const added = await gpuctl(...add, "--fingerprint", print);
    expect(added.code, added.stderr).toBe(0);
    const after = stack.project.read("infra/stacks/Pulumi.adopted-t4.yaml");
    expect(after).toContain(`hostKey: ${hostKey}`);
    expect(after).toContain(`host: ${address}`);
    for (const comment of before.match(/#.*/g) ?? []) expect(after).toContain(comment);
    await stack.project.must("up");
  });

  test("that was to have a card is refused without one; a file in which somebody took the card away is no inventory of it", async () => {
    const { error } = await json("deploy");
    expect(error).toMatchObject({ exitCode: 5 });
    expect(JSON.stringify(error)).toContain("the inventory (stack adopted-t4) promises 1 of this node");
    const inventory = inventorySchema.parse(await stack.inventory());
    inventory.nodes["gpu-1"]!.gpus.expected = 0;
    writeFileSync(join(stack.project.folder, "inventory.json"), JSON.stringify(inventory));
    write({ inventory: "file inventory.json" });
    expect((await json("plan")).error?.message).toContain("is not what the stack adopted-t4 has now");
  });

  test("with a service on a port that its firewalls do not know is refused, before anything is done", async () => {
    write({ port: 18109 });
    const { ok, error } = await json("plan");
    expect({ ok, exit: error?.exitCode }).toEqual({ ok: false, exit: 5 });
    expect(JSON.stringify(error)).toContain("the firewalls of the stack do not know index's port 18109");
    expect(JSON.stringify(error)).toContain("gpuctl:servicePorts");
  });

  test("is planned for with what the stack says of it: address, account, key, ports; and what a deploy would do is shown", async () => {
    await stack.must("config", "rm", "--path", "gpuctl:nodes.gpu-1.gpu");
    await stack.project.must("up");
    expect((await gpuctl("infra", "export", "--stack", "adopted-t4", "--output", "inventory.json")).code).toBe(0);
    write({ inventory: "file inventory.json" });
    const planned = await gpuctl("plan");
    expect(planned.code, planned.stderr).toBe(0);
    expect(planned.stdout).toContain("index: not deployed yet");
    write({});
    const dry = await gpuctl("deploy", "--dry-run");
    expect(dry.code, dry.stderr).toBe(0);
    expect(dry.stdout).toMatch(/^ +gpu-1  # wait +until index-public saw index-r1/m);
  });

  test("is deployed to, and answers where the stack said it would", async () => {
    const deployed = await gpuctl("deploy");
    expect(deployed.code, deployed.stderr).toBe(0);
    const address = `http://${bed.host("box").address}:18103`;
    expect(deployed.stdout).toContain(address);
    expect((await fetch(`${address}/health`)).status).toBe(200);
  });

  test("shows another key than the inventory's: nobody logs in", async () => {
    await stack.set("nodes.gpu-1.hostKey", hostKeyOf("another"));
    await stack.project.must("up");
    const { error } = await json("deploy", "--dry-run");
    expect(error).toMatchObject({ exitCode: 4 });
    expect(JSON.stringify(error)).toContain("stack adopted-t4");
  });
});

/** An agent that holds one key, until it is killed. */
async function agentWith(key: string, socket: string): Promise<ChildProcess> {
  const agent = spawn("ssh-agent", ["-D", "-a", socket], { stdio: "ignore" });
  const env = { ...process.env, SSH_AUTH_SOCK: socket };
  await once(agent, "spawn");
  await until(async () => (await run("ssh-add", [key], { env })).code === 0, "the agent has the key", 10_000);
  return agent;
}
