import { fingerprintOf } from "../../../cli/src/domain/fingerprint.js";
import type { ReleaseId, ServiceName } from "../../../cli/src/domain/names.js";
import type { ModelRef, ServiceSpec } from "../../../cli/src/domain/release.js";
import { hostInstanceId, type HostSlot } from "../../../cli/src/domain/compose/names.js";
import type { ComposeNode, HostInstance, NodeService } from "../../../cli/src/domain/compose/node.js";
import { mib, ms } from "../../../cli/src/domain/units.js";
import { plainNode } from "../../support/compose-driver.js";
import { specFor } from "../../support/records.js";

const hash = (digit: string): string => digit.repeat(64);

export const serviceImage = `registry.example.net/gpuctl/services@sha256:${hash("1")}`;
export const proxyImage = `registry.example.net/gpuctl/caddy@sha256:${hash("2")}`;
export const redisImage = `registry.example.net/gpuctl/redis@sha256:${hash("3")}`;
export const gpu = "nvidia.com/gpu=GPU-8a56d2c4-0000-1111-2222-333344445555";

export const bgeM3: ModelRef = {
  name: "bge-m3",
  id: "BAAI/bge-m3",
  revision: "5617a9f61b028005a4858fdac845db406aefb181",
  manifest: hash("d"),
  files: { "model.safetensors": hash("e") },
  generation: "BAAI/bge-m3@5617a9f|cls|normalized||1024",
};
export const rerankerModel: ModelRef = { ...bgeM3, name: "bge-reranker-v2-m3", id: "BAAI/bge-reranker-v2-m3", generation: null };

export const release: ReleaseId = "r12-9f3ab2c1";

const models: Readonly<Record<ServiceName, ModelRef | null>> = { embedder: bgeM3, reranker: rerankerModel, index: null };

/** An instance of a service, in a place, with what a test changes about its spec. */
export function instance(
  service: ServiceName,
  slot: HostSlot,
  spec: Partial<ServiceSpec> = {},
  parts: Partial<HostInstance> = {},
): HostInstance {
  const whole = specFor({
    service,
    model: models[service],
    device: { prefer: "cuda", require: "cuda", proof: "process" },
    env: { GPUCTL_DEVICE: "cuda", GPUCTL_REQUIRE: "cuda" },
    ...spec,
  });
  const id = hostInstanceId(service, release, slot);
  return { id, service, release, slot, spec: whole, fingerprint: fingerprintOf(whole), image: serviceImage, gpu: null, ...parts };
}

export const ports: Readonly<Record<ServiceName, number>> = { embedder: 8001, reranker: 8002, index: 8003 };

export const service = (name: ServiceName, instances: readonly HostInstance[], cpuFallback = false): NodeService => ({
  service: name,
  port: ports[name],
  instances,
  cpuFallback,
});

/** A node of the environment `prod` of `shop`, with what a test changes. */
export function nodeWith(changes: Partial<ComposeNode> = {}): ComposeNode {
  return {
    ...plainNode,
    node: "gpu-1",
    dataDirectory: "/var/lib/gpuctl",
    bind: "10.0.0.5",
    services: [service("embedder", [instance("embedder", "a", {}, { gpu })])],
    proxyImage,
    budgets: { load: ms(900_000), drain: ms(30_000) },
    hostMemory: mib(32_768),
    images: [serviceImage, proxyImage],
    ...changes,
  };
}

const onCpu: Partial<ServiceSpec> = { device: { prefer: "cpu", require: null, proof: "self" }, env: { GPUCTL_DEVICE: "cpu" } };

const everything = [
  service("embedder", [instance("embedder", "b", {}, { gpu })]),
  service("reranker", [instance("reranker", "a", {}, { gpu })]),
  service("index", [instance("index", "a", onCpu)]),
];

/** One node for each kind of deployment that is worth reading. */
export const cases: Readonly<Record<string, ComposeNode>> = {
  cpu: nodeWith({ bind: "127.0.0.1", services: [service("embedder", [instance("embedder", "a", onCpu)])] }),
  "one-gpu": nodeWith({ services: everything }),
  "switch-between-slots": nodeWith({
    services: [service("embedder", [instance("embedder", "a", {}, { gpu }), instance("embedder", "b", {}, { gpu })])],
  }),
  "two-nodes-index-apart": nodeWith({
    node: "cpu-1",
    bind: "10.0.0.6",
    services: [service("index", [instance("index", "b", onCpu)])],
    embedderUrl: "http://10.0.0.5:8001",
  }),
  ingress: nodeWith({
    node: "edge",
    bind: "10.0.0.4",
    services: [service("reranker", [instance("reranker", "a", onCpu)])],
    tls: { mode: "acme", domain: "models.example.net", email: "ops@example.net", directory: null, directoryCa: false },
    allow: ["198.51.100.0/24"],
    ingressAddress: "10.0.0.4",
    ingress: {
      bind: "203.0.113.9",
      port: 443,
      nodes: [
        { node: "edge", address: "10.0.0.4", services: { reranker: 8002 } },
        { node: "gpu-1", address: "10.0.0.5", services: { embedder: 8001, reranker: 8002 } },
        { node: "gpu-2", address: "fd00::6", services: { embedder: 8001, reranker: 8002, index: 8003 } },
      ],
    },
  }),
  "ingress-alone": nodeWith({
    node: "edge",
    services: [],
    ingressAddress: "10.0.0.4",
    ingress: { bind: "0.0.0.0", port: 80, nodes: [{ node: "gpu-1", address: "10.0.0.5", services: { embedder: 8001 } }] },
  }),
  fallback: nodeWith({
    services: [service("embedder", [instance("embedder", "a", {}, { gpu }), instance("embedder", "cpu")], true)],
  }),
  "own-certificate": nodeWith({ tls: { mode: "files" } }),
  acme: nodeWith({ tls: { mode: "acme", domain: "gpu-1.example.net", email: null, directory: null, directoryCa: false } }),
  "acme-of-ones-own": nodeWith({
    tls: {
      mode: "acme",
      domain: "gpu-1.example.net",
      email: null,
      directory: "https://ca.example.net:9000/acme/acme/directory",
      directoryCa: true,
    },
  }),
  keys: nodeWith({
    services: [
      service("embedder", [instance("embedder", "a", { secrets: { API_KEYS: hash("f"), HF_TOKEN: hash("f") } }, { gpu })]),
    ],
  }),
  "allow-list": nodeWith({ allow: ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"] }),
  "asked-by-an-index-elsewhere": nodeWith({
    services: everything.slice(0, 2),
    allow: ["10.0.0.4/32"],
    askedFrom: ["10.0.0.6"],
  }),
  redis: nodeWith({
    services: [service("reranker", [instance("reranker", "a", { env: { GPUCTL_REDIS_URL: "redis://redis:6379/0" } }, { gpu })])],
    redis: { image: redisImage, memory: mib(256) },
  }),
};
