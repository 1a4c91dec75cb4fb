import { describe, expect, it } from "vitest";
import { nodeSettings, type ComposeSettings } from "../../../cli/src/domain/compose/node-settings.js";
import type { EnvironmentConfig, ServiceConfig } from "../../../cli/src/domain/config/resolved.js";
import { ConfigInvalid } from "../../../cli/src/domain/errors.js";
import { nodeNeeds } from "../../../cli/src/domain/preflight/needs-of.js";
import { projectConfig } from "../../support/project-config.js";

const settings: ComposeSettings = { target: "compose", nodes: { one: { host: "10.0.0.5" }, two: { host: "10.0.0.6" } } };
const embedder: ServiceConfig = {
  service: "embedder",
  port: 8001,
  model: "bge-m3",
  device: { prefer: "auto", require: null, proof: "self" },
  vramBudget: null,
  slo: null,
  env: {},
  secrets: {},
  benchmarkGate: null,
};
const configWith = (changes: Partial<ServiceConfig>): EnvironmentConfig => ({
  ...projectConfig("/srv/shop"),
  target: "compose",
  services: { embedder: { ...embedder, ...changes } },
});
const redis = `docker.example.net/redis@sha256:${"3".repeat(64)}`;

describe("what gpuctl.yaml says about a node", () => {
  it.each([
    ["redis://redis:6379/0", redis, redis],
    ["redis://cache.example.net:6379/0", redis, undefined],
    ["", null, undefined],
  ])("has a Redis beside its services when redisUrl is %j", (url, image, expected) => {
    const config = configWith({ env: url === "" ? {} : { GPUCTL_REDIS_URL: url } });
    expect(nodeSettings(config, settings, "one", { proxy: "caddy", redis: image }).redis?.image).toBe(expected);
  });

  it("is invalid when a service asks for that Redis and nothing says which image it is", () => {
    const config = configWith({ env: { GPUCTL_REDIS_URL: "redis://redis:6379/0" } });
    const render = () => nodeSettings(config, settings, "one", { proxy: "caddy", redis: null });
    expect(render).toThrow(ConfigInvalid);
    expect(render).toThrow("environment local has no image for the Redis beside its services");
  });

  it("puts a CPU instance behind a service that falls back to the CPU, and to nothing else", () => {
    const fallbacks = [{ kind: "cpu" }, { kind: "model", model: "small", maxCandidates: 10 }, null] as const;
    const found = fallbacks.map((fallback) =>
      nodeSettings(configWith({ fallback }), settings, "one", { proxy: "caddy", redis: null }).services.map(
        (each) => each.cpuFallback,
      ),
    );
    expect(found).toEqual([[true], [false], [false]]);
  });
});

it("says whom the proxy asks for its certificate, and whether a CA comes with that", () => {
  const tlsOf = (tls: ComposeSettings["tls"]) =>
    nodeSettings(configWith({}), { ...settings, ...(tls && { tls }) }, "one", { proxy: "caddy", redis: null }).tls;
  const directory = "https://ca.example.net/acme/acme/directory";
  const usual = { mode: "acme", domain: "a.example.net" } as const;
  expect(tlsOf(usual)).toEqual({ ...usual, email: null, directory: null, directoryCa: false });
  expect(tlsOf({ ...usual, directory, directoryCa: "ca.pem" })).toEqual({ ...usual, email: null, directory, directoryCa: true });
});

describe("an ingress on another node", () => {
  const edge = (two: ComposeSettings["nodes"][string]): ComposeSettings => ({
    ...settings,
    nodes: { one: { host: "one.example.net" }, two },
    ingress: { node: "two" },
  });
  const address = (node: string, two: ComposeSettings["nodes"][string]): string | null =>
    nodeSettings(configWith({ nodes: ["one"] }), edge(two), node, { proxy: "caddy", redis: null }).ingressAddress;

  it("is known to a node by its address, and to itself by none", () => {
    expect(address("one", { host: "10.0.0.6" })).toBe("10.0.0.6");
    expect(address("one", { host: "two.example.net", bind: "10.1.0.6" })).toBe("10.1.0.6");
    expect(address("two", { host: "two.example.net" })).toBe(null);
  });

  it("is refused when it has a name there, which no proxy could trust, and is said how to change that", () => {
    expect(() => address("one", { host: "two.example.net" })).toThrow(ConfigInvalid);
    expect(() => address("one", { host: "two.example.net" })).toThrow("the ingress on two could not be told from others by one");
  });
});

describe("an index on a node without an embedder", () => {
  const index: ServiceConfig = { ...embedder, service: "index", port: 8003, model: null, nodes: ["two"] };
  const apart = { ...configWith({ nodes: ["one"] }), services: { embedder: { ...embedder, nodes: ["one"] }, index } };
  const from = (node: string, changes: Partial<ComposeSettings> = {}, config: EnvironmentConfig = apart): readonly string[] =>
    nodeSettings(config, { ...settings, ...changes }, node, { proxy: "caddy", redis: null }).askedFrom;

  it("asks from its own address, which the node of the embedder lets in, with an ingress too", () => {
    expect([from("one"), from("two")]).toEqual([["10.0.0.6"], []]);
    expect(from("one", { allow: ["10.9.0.0/24"], ingress: { node: "two" } })).toEqual(["10.0.0.6"]);
    expect(from("one", { nodes: { one: { host: "10.0.0.5" }, two: { host: "two", bind: "10.1.0.6" } } })).toEqual(["10.1.0.6"]);
  });

  it("asks nobody else when it has an embedder beside it, or there is none", () => {
    expect(from("one", {}, { ...apart, services: { embedder, index } })).toEqual([]);
    expect(from("one", {}, { ...apart, services: { index } })).toEqual([]);
    expect(from("one", {}, configWith({ nodes: ["one"] }))).toEqual([]);
  });

  it("is invalid where only addresses are let in and its own is a name, and is said how to change that", () => {
    const named = { nodes: { one: { host: "10.0.0.5" }, two: { host: "two.example.net" } } };
    expect(from("one", named)).toEqual(["two.example.net"]);
    expect(() => from("one", { ...named, allow: ["10.9.0.0/24"] })).toThrow("the index on two could not be let in by one");
  });

  it("is among those who may reach the embedder, for whoever looks at firewalls", () => {
    const config = { ...apart, targetSettings: { ...settings, allow: ["10.9.0.0/24"] } };
    const load = { imageBytes: null, sentBytes: null, modelBytes: null };
    expect(nodeNeeds(config, "one", load).allow).toEqual(["10.9.0.0/24", "10.0.0.6"]);
    expect(nodeNeeds(config, "two", load).allow).toEqual(["10.9.0.0/24"]);
  });
});
