import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import {
  composeCommand,
  createCommand,
  hostDirectories,
  hostFiles,
  layoutOf,
  secretFiles,
} from "../../../cli/src/domain/compose/host-files.js";
import { HostLayout } from "../../../cli/src/domain/compose/layout.js";
import { checkersOf, renderProxyCaddyfile } from "../../../cli/src/domain/compose/render-caddyfile.js";
import { renderCompose } from "../../../cli/src/domain/compose/render-compose.js";
import { ConfigInvalid } from "../../../cli/src/domain/errors.js";
import { mib, ms } from "../../../cli/src/domain/units.js";
import { cases, gpu, instance, nodeWith, service } from "./nodes.js";

interface Rendered {
  services: Record<
    string,
    { networks: string[]; environment: Record<string, string>; ports?: { host_ip: string }[]; stop_grace_period?: string }
  >;
}
const rendered = (node = nodeWith()): Rendered => parse(renderCompose(node)) as Rendered;

describe("every host", () => {
  test.each(Object.entries(cases))("%s: nothing is published on another address than the node's", (_, node) => {
    const allowed = [node.bind, node.ingress?.bind];
    const published = Object.values(rendered(node).services).flatMap(({ ports }) => ports ?? []);
    expect(published.filter(({ host_ip: address }) => !allowed.includes(address))).toEqual([]);
    expect(published.length).toBeGreaterThan(0);
  });

  test.each(Object.entries(cases))("%s: what is mounted is made before, and secrets are nobody else's", (_, node) => {
    const made = hostDirectories(node).map(({ path }) => path);
    expect(new Set(made).size).toBe(made.length);
    const mounted = renderCompose(node).matchAll(/source: "(\/[^"]+)"/g);
    expect([...mounted].map(([, path]) => path).filter((path) => !made.includes(path!))).toEqual([]);
    for (const { path } of hostFiles(node)) expect(made).toContain(path.slice(0, path.lastIndexOf("/")));
    for (const { path, mode } of hostDirectories(node)) if (/\/(?:secrets|releases)/.test(path)) expect(mode & 0o077).toBe(0);
  });

  test.each(Object.entries(cases))("%s: a container ends before Docker kills it, whatever the drain is", (_, node) => {
    for (const drain of [0, 30_000, 120_000]) {
      const seconds = Object.values(rendered({ ...node, budgets: { ...node.budgets, drain: ms(drain) } }).services).map(
        (one) => one.stop_grace_period,
      );
      const ofServices = node.services.flatMap(({ instances }) => instances);
      expect(
        seconds.filter((text) => text !== undefined && Number.parseInt(text, 10) * 1000 > Math.max(drain, 30_000)).length,
      ).toBeGreaterThanOrEqual(ofServices.length);
    }
  });
});

test("secrets are files that only the container's user reads; their values are in no rendered file", () => {
  const node = cases["keys"]!;
  const files = secretFiles(node, node.services[0]!.instances[0]!, { HF_TOKEN: "hf_x", API_KEYS: "one\ntwo\n" });
  expect(files).toEqual([
    {
      path: "/var/lib/gpuctl/shop/prod/secrets/r12-9f3ab2c1/embedder/API_KEYS",
      mode: 0o400,
      owner: "10001:10001",
      content: "one\ntwo\n",
    },
    {
      path: "/var/lib/gpuctl/shop/prod/secrets/r12-9f3ab2c1/embedder/HF_TOKEN",
      mode: 0o400,
      owner: "10001:10001",
      content: "hf_x",
    },
  ]);
  expect(rendered(node).services["embedder-a"]!.environment).toMatchObject({
    GPUCTL_API_KEYS_FILE: "/gpuctl/secrets/API_KEYS",
    GPUCTL_SECRETS_DIR: "/gpuctl/secrets",
  });
});

test("an instance finds in its directory what it is, with the paths that it sees", () => {
  const file = hostFiles(nodeWith()).find(({ path }) => path.endsWith("instance.json"))!;
  expect(file).toMatchObject({ path: "/var/lib/gpuctl/shop/prod/run/embedder-r12-9f3ab2c1-a/instance.json", mode: 0o400 });
  expect(JSON.parse(file.content)).toMatchObject({
    schemaVersion: 1,
    id: "embedder-r12-9f3ab2c1-a",
    listen: { host: "0.0.0.0", port: 8001 },
    private: "/gpuctl/run/embedder-r12-9f3ab2c1-a/private.sock",
    control: "/gpuctl/run/embedder-r12-9f3ab2c1-a/control.sock",
    gate: "/gpuctl/gates/embedder-r12-9f3ab2c1-a",
    lingerMs: 5000,
  });
});

test("commands name the project and its file, wherever they are run", () => {
  const node = nodeWith();
  const own = ["docker", "compose", "--project-name", "gpuctl_shop_prod", "--project-directory", "/var/lib/gpuctl/shop/prod"];
  expect(composeCommand(node)).toEqual([...own, "--file", "/var/lib/gpuctl/shop/prod/compose.yaml"]);
  expect(createCommand(node, node.services[0]!.instances[0]!).slice(-6)).toEqual([
    "create",
    "--no-build",
    "--pull",
    "never",
    "--no-recreate",
    "embedder-a",
  ]);
});

test("the CPU instance is asked for no GPU and takes no setting of one", () => {
  const spec = {
    env: {
      GPUCTL_DEVICE: "cuda",
      GPUCTL_REQUIRE: "cuda",
      GPUCTL_DTYPE: "float16",
      GPUCTL_MAX_BATCH_TOKENS: "8192",
      GPUCTL_MAX_TOKENS: "512",
    },
  };
  const node = nodeWith({
    services: [service("embedder", [instance("embedder", "a", spec, { gpu }), instance("embedder", "cpu", spec)], true)],
  });
  const { environment } = rendered(node).services["embedder-cpu"]!;
  expect(environment).toMatchObject({ GPUCTL_DEVICE: "cpu", GPUCTL_MAX_TOKENS: "512" });
  expect(Object.keys(environment)).not.toContain("GPUCTL_REQUIRE");
  expect(Object.keys(environment)).not.toContain("GPUCTL_DTYPE");
  expect(renderCompose(node).match(/nvidia\.com\/gpu/g)).toHaveLength(1);
  expect(renderProxyCaddyfile(node)).toContain("reverse_proxy embedder-a:8001 embedder-b:8001 embedder-cpu:8001 {");
});

test.each([
  ["redis://redis:6379/0", ["inside"]],
  ["redis://redis/1", ["inside"]],
  ["redis://cache.example.net:6379/0", ["inside", "outside"]],
  ["redis://redis.example.net/0", ["inside", "outside"]],
  ["rediss://redis:6379/0", ["inside", "outside"]],
])("services run offline but for what they are told to ask: %s", (url, networks) => {
  const node = nodeWith({ services: [service("embedder", [instance("embedder", "a", { env: { GPUCTL_REDIS_URL: url } })])] });
  expect(rendered(node).services["embedder-a"]!.networks).toEqual(networks);
});

test("the proxy's own limits are wider than those that services usually have, so that another one of those is no reload", () => {
  const withEnv = (env: Record<string, string>): string =>
    renderProxyCaddyfile(nodeWith({ services: [service("embedder", [instance("embedder", "a", { env })])] }));
  const usual = withEnv({});
  expect(withEnv({ GPUCTL_DEADLINE_MS: "120000", GPUCTL_MAX_BODY_BYTES: "33554432" })).toBe(usual);
  expect(usual).toContain("import places first embedder-public 330s");
  expect(withEnv({ GPUCTL_DEADLINE_MS: "600000" })).toContain("import places first embedder-public 630s");
  expect(withEnv({ GPUCTL_MAX_BODY_BYTES: "100000000" })).toContain("import admission 200000000");
});

test("a listener that asks for the gate is waited for in a switch: those of the node and no other", () => {
  expect(checkersOf(cases["cpu"]!, "embedder")).toEqual(["embedder-public"]);
  expect(checkersOf(cases["one-gpu"]!, "embedder")).toEqual(["embedder-public", "embedder-internal"]);
  expect(checkersOf(cases["one-gpu"]!, "reranker")).toEqual(["reranker-public"]);
  expect(checkersOf(cases["cpu"]!, "index")).toEqual([]);
  for (const node of Object.values(cases))
    for (const { service: name } of node.services)
      expect([...renderProxyCaddyfile(node).matchAll(/import places first (\S+)/g)].map(([, checker]) => checker)).toEqual(
        expect.arrayContaining([...checkersOf(node, name)]),
      );
});

describe("what is refused", () => {
  test.each(["services:latest", "services", `services@sha256:${"a".repeat(63)}`])("an image that is not pinned: %s", (image) => {
    const node = nodeWith({ services: [service("embedder", [instance("embedder", "a", {}, { image })])] });
    expect(() => renderCompose(node)).toThrow(/is not pinned/);
    expect(() => renderCompose(nodeWith({ proxyImage: image }))).toThrow(ConfigInvalid);
  });

  test("an image without a registry is one by its id", () => {
    const image = `sha256:${"a".repeat(64)}`;
    expect(renderCompose(nodeWith({ proxyImage: image }))).toContain(image);
  });

  test.each(["data", "/srv/../etc", "/srv/a:b", `/${"d".repeat(40)}`])(
    "a data directory that cannot be used: %s",
    (directory) => {
      expect(() => new HostLayout(directory, "shop", "prod")).toThrow(/dataDirectory/);
    },
  );

  test("an e-mail address that would be syntax in a Caddyfile", () => {
    const node = nodeWith({
      tls: { mode: "acme", domain: "a.example.net", email: 'x{$HOME}"@example.net', directory: null, directoryCa: false },
    });
    expect(() => renderProxyCaddyfile(node)).toThrow(/cannot stand in the proxy's configuration/);
  });
});

test("long names move the sockets to a short directory, which is made too", () => {
  const node = nodeWith({ project: "p".repeat(40), environment: "e".repeat(40) });
  expect(layoutOf(node).run).toMatch(/^\/var\/lib\/gpuctl\/\.run\/[0-9a-f]{16}$/);
  expect(hostDirectories(node).map(({ path }) => path)).toEqual(
    expect.arrayContaining(["/var/lib/gpuctl/.run", layoutOf(node).run]),
  );
});

test("a proxy and an ingress have a limit of their own, which a small host halves; instances may have all but a tenth of the host", () => {
  interface Limited {
    services: Record<string, { environment: Record<string, string>; deploy: { resources: { limits: { memory: string } } } }>;
  }
  const limits = (hostMemory: number): unknown => {
    const { services } = parse(renderCompose({ ...cases["ingress"]!, hostMemory: mib(hostMemory) })) as Limited;
    return Object.entries(services).map(([name, { deploy, environment }]) => [
      name.replace(/-[ab]$/, ""),
      deploy.resources.limits.memory,
      environment["GOMEMLIMIT"] ?? null,
    ]);
  };
  expect(limits(32_768)).toEqual([
    ["reranker", "29491m", null],
    ["proxy", "1024m", "921MiB"],
    ["ingress", "1024m", "921MiB"],
  ]);
  expect(limits(1000)).toEqual([
    ["reranker", "900m", null],
    ["proxy", "500m", "450MiB"],
    ["ingress", "500m", "450MiB"],
  ]);
});
