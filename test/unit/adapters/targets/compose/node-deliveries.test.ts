import { afterEach, beforeEach, expect, test } from "vitest";
import { NodeDeliveries, type NodeDeliveriesOptions } from "../../../../../cli/src/adapters/targets/compose/node-deliveries.js";
import { ConfigInvalid, PreflightRefused } from "../../../../../cli/src/domain/errors.js";
import type { StoredModel } from "../../../../../cli/src/ports.js";
import type { NodeWants } from "../../../../../cli/src/ports/node-inspector.js";
import { projectConfig } from "../../../../support/project-config.js";
import { bgeM3, serviceImage } from "../../../compose/nodes.js";
import { factsOf } from "../../../preflight/captures.js";
import { ScriptedHost, type Reply } from "./scripted-host.js";

let host: ScriptedHost;
beforeEach(() => {
  host = new ScriptedHost();
});
afterEach(() => host.dispose());

const caddy = `registry.example/caddy@sha256:${"3".repeat(64)}`;
const wants: NodeWants = { devices: ["cuda"], models: ["bge-m3"] };
const lacks = (reference: string): Reply => ({
  to: `image\\ inspect*${reference}`,
  stderr: "Error response from daemon: No such image: x\n",
  code: 1,
});
const manifest = (bytes: number): Reply => ({
  to: "manifest\\ inspect*",
  stdout: JSON.stringify({ layers: [{ digest: `sha256:${"1".repeat(64)}`, size: bytes }] }),
});
const noVolume: Reply = { to: "volume\\ inspect*", code: 1 };

const deliveries = (changes: Partial<NodeDeliveriesOptions> = {}): NodeDeliveries =>
  new NodeDeliveries({
    config: projectConfig("/p"),
    commandsOf: () => host.commands,
    models: { resolve: async () => ({ ref: bgeM3, bytes: 0.5e9 }) as StoredModel },
    servicesImage: async () => serviceImage,
    companions: [caddy, ""],
    source: (reference) => ({ reference, local: null }),
    fetching: null,
    ...changes,
  });

test("what a node lacks is counted as a deploy counts it: three times what the registry sends, and the models", async () => {
  host.replies([lacks(serviceImage), manifest(1e9), noVolume]);
  const facts = factsOf("t4-ubuntu");
  expect(await deliveries().of("gpu-1", wants, facts)).toEqual({ imageBytes: 3e9, sentBytes: 0, modelBytes: 0.5e9 });
  expect(await deliveries().of("gpu-1", { ...wants, models: [] }, facts)).toMatchObject({ modelBytes: 0 });
  const fetching = { sourceOf: () => ({}) as never };
  expect(await deliveries({ fetching }).of("gpu-1", wants, facts)).toMatchObject({ modelBytes: 1e9 });
  expect(host.changes().filter((line) => !/^docker (?:info|manifest inspect|image ls)/.test(line))).toEqual([]);
});

test("a registry that knows its callers is asked as the account of gpuctl.yaml; without its password nobody knows", async () => {
  const asking = (password: () => Promise<string>): Promise<unknown> => {
    const login = { server: "registry.example", username: "ci", password };
    const source: NodeDeliveriesOptions["source"] = (reference) => ({ reference, local: null, login });
    return deliveries({ source }).of("gpu-1", wants, factsOf("t4-ubuntu"));
  };
  host.replies([lacks(serviceImage), manifest(1e9), noVolume]);
  expect(await asking(async () => "wombat")).toMatchObject({ imageBytes: 3e9 });
  const asked = host.asked().filter((line) => /^docker (?:login|manifest)/.test(line));
  expect(asked).toEqual([
    "docker login --username ci --password-stdin registry.example",
    `docker manifest inspect ${serviceImage}`,
  ]);
  const missing = async (): Promise<never> => Promise.reject(new ConfigInvalid("the secret registry.password has no value"));
  expect(await asking(missing)).toMatchObject({ imageBytes: null });
});

test("what a node has is not brought again", async () => {
  expect(await deliveries().of("gpu-1", { ...wants, models: [] }, factsOf("t4-ubuntu"))).toEqual({
    imageBytes: 0,
    sentBytes: 0,
    modelBytes: 0,
  });
});

test("what nobody knows stays unknown: an image that no lock names, a registry that is silent, a model that is not here", async () => {
  const facts = factsOf("t4-ubuntu");
  host.replies([noVolume]);
  expect(await deliveries({ servicesImage: async () => null }).of("gpu-1", wants, facts)).toMatchObject({ imageBytes: null });
  const refuses = async (): Promise<never> => Promise.reject(new PreflightRefused("the model is not here"));
  expect(await deliveries({ models: { resolve: refuses } }).of("gpu-1", wants, facts)).toMatchObject({ modelBytes: null });
  host.replies([lacks(serviceImage), { to: "manifest\\ inspect*", code: 1 }, noVolume]);
  expect(await deliveries().of("gpu-1", wants, facts)).toMatchObject({ imageBytes: null, modelBytes: 0.5e9 });
});

test("a node that gives no root, or whose engine is silent, is not asked; one that fails is unknown", async () => {
  const never = { commandsOf: () => expect.fail("nobody is to ask") };
  expect(await deliveries(never).of("gpu-1", wants, factsOf("no-rights"))).toBeNull();
  expect(await deliveries(never).of("gpu-1", wants, factsOf("debian-root"))).toBeNull();
  host.replies([{ to: "image\\ inspect*", code: 1, stderr: "Cannot connect to the Docker daemon\n" }]);
  expect(await deliveries().of("gpu-1", wants, factsOf("t4-ubuntu"))).toBeNull();
});
