import { describe, expect, it } from "vitest";
import { nodeSettings, type ComposeSettings } from "../../../cli/src/domain/compose/node-settings.js";
import type { EnvironmentConfig, ServiceConfig } from "../../../cli/src/domain/config/resolved.js";
import { ConfigInvalid } from "../../../cli/src/domain/errors.js";
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
