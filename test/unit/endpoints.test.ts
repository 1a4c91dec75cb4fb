import { describe, expect, test } from "vitest";
import { baseOf, serviceWay } from "../../cli/src/app/service-address.js";
import type { EnvironmentConfig, ServiceConfig } from "../../cli/src/domain/config/resolved.js";
import { configuredEndpoints } from "../../cli/src/domain/endpoints.js";
import { projectConfig } from "../support/project-config.js";

const service = (changes: Partial<ServiceConfig> = {}): ServiceConfig => ({
  service: "embedder",
  port: 8001,
  model: null,
  device: { prefer: "cpu", require: null, proof: "self" },
  vramBudget: null,
  slo: null,
  env: {},
  secrets: {},
  benchmarkGate: null,
  ...changes,
});

type Settings = Extract<NonNullable<EnvironmentConfig["targetSettings"]>, { target: "compose" }>;

const onHosts = (settings: Partial<Settings>, embedder = service()): EnvironmentConfig => ({
  ...projectConfig("/p"),
  target: "compose",
  bind: "127.0.0.1",
  services: { embedder },
  targetSettings: { target: "compose", nodes: { "gpu-1": { host: "203.0.113.7" } }, ...settings },
});

const urls = (config: EnvironmentConfig): readonly string[] => configuredEndpoints(config, "embedder").map(({ url }) => url);

describe("addresses of a service", () => {
  test("on this machine there is one", () => {
    const config = { ...projectConfig("/p"), bind: "0.0.0.0", services: { embedder: service() } };
    expect(configuredEndpoints(config, "embedder")).toEqual([
      { node: null, url: "http://127.0.0.1:8001", port: 8001, thisMachine: true, loopback: false },
    ]);
    expect(configuredEndpoints(config, "index")).toEqual([]);
  });

  test("on hosts they are those that the nodes publish on, of the nodes that run it", () => {
    const nodes = {
      a: { host: "203.0.113.7", bind: "10.0.0.5" },
      b: { host: "203.0.113.8", bind: "0.0.0.0" },
      c: { host: "203.0.113.9" },
      d: { host: "local", bind: "0.0.0.0" },
      e: { host: "203.0.113.10", bind: "fd00::5" },
    };
    expect(configuredEndpoints(onHosts({ nodes }), "embedder").map(({ node, url, loopback }) => [node, url, loopback])).toEqual([
      ["a", "http://10.0.0.5:8001", false],
      ["b", "http://203.0.113.8:8001", false],
      ["c", "http://127.0.0.1:8001", true],
      ["d", "http://127.0.0.1:8001", false],
      ["e", "http://[fd00::5]:8001", false],
    ]);
    expect(urls(onHosts({ nodes }, service({ nodes: ["b"] })))).toEqual(["http://203.0.113.8:8001"]);
  });

  test("have the scheme that the proxy speaks there", () => {
    const nodes = { a: { host: "203.0.113.7", bind: "10.0.0.5" } };
    expect(urls(onHosts({ nodes, tls: { mode: "files", certificate: "c", key: "k" } }))).toEqual(["https://10.0.0.5:8001"]);
    const acme = { mode: "acme", domain: "gpu.example.com" } as Settings["tls"];
    expect(urls(onHosts({ nodes, tls: acme }))).toEqual(["https://gpu.example.com:8001"]);
    expect(urls(onHosts({ nodes, tls: acme, ingress: { node: "a" } }))).toEqual(["http://10.0.0.5:8001"]);
  });
});

describe("the way of a command to a service", () => {
  const secrets = { read: async (): Promise<string> => "\n first \nsecond" };
  const tunnelTo = async (node: string, port: number): Promise<string> => `http://127.0.0.1:40000/${node}/${port}`;

  test("is a tunnel where the node publishes for itself only, with the service's key", async () => {
    const keys = service({ secrets: { API_KEYS: { env: "KEYS" } } });
    const way = await serviceWay({ config: onHosts({}, keys), secrets, tunnelTo }, "embedder");
    expect(way).toMatchObject({
      base: "http://127.0.0.1:40000/gpu-1/8001",
      headers: { authorization: "Bearer first" },
      endpoint: { node: "gpu-1", url: "http://127.0.0.1:8001" },
    });
  });

  test("is the address itself everywhere else", async () => {
    const nodes = { a: { host: "local" } };
    expect((await serviceWay({ config: onHosts({ nodes }), secrets, tunnelTo }, "embedder")).base).toBe("http://127.0.0.1:8001");
  });

  test("is none where the certificate is for another name than a tunnel has, and that is said", async () => {
    const config = onHosts({ tls: { mode: "files", certificate: "c", key: "k" } });
    const [endpoint] = configuredEndpoints(config, "embedder");
    await expect(baseOf({ tunnelTo }, "embedder", endpoint!)).rejects.toMatchObject({
      exit: "preflightRefused",
      message: "the embedder of gpu-1 cannot be asked from here",
      because: "it answers on https://127.0.0.1:8001 of its node only, and its certificate is not one for a tunnel",
    });
  });

  test("is none to a service that the environment does not have", async () => {
    await expect(serviceWay({ config: onHosts({}), secrets, tunnelTo }, "index")).rejects.toThrow("has no index");
  });
});
