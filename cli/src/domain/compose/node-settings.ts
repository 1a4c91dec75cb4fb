import type { EnvironmentConfig, ServiceConfig } from "../config/resolved.js";
import type { EnvironmentSettings } from "../config/schema-targets.js";
import { ConfigInvalid } from "../errors.js";
import { inOrder } from "../fingerprint.js";
import type { ServiceName } from "../names.js";
import { reachableUrl } from "../spec.js";
import { mib } from "../units.js";
import { usesOwnRedis } from "./instance-service.js";
import { defaultDataDirectory } from "./layout.js";
import type { ComposeNode, IngressUpstream, NodeService, NodeTls } from "./node.js";

export type ComposeSettings = Extract<EnvironmentSettings, { target: "compose" }>;

/** What gpuctl.yaml says about a node: everything but what runs there. */
export type NodeSettings = Omit<ComposeNode, "services" | "hostMemory" | "images"> & {
  services: readonly Omit<NodeService, "instances">[];
};

/** Pinned images of what stands beside the services. */
export interface CompanionImages {
  proxy: string;
  /** Null where no service uses a Redis of gpuctl's own. */
  redis: string | null;
}

/** Memory of a Redis of gpuctl's own: some hundred thousand vectors of a small model. */
const redisMemory = mib(512);

/** Names of the nodes that run a service, in the order of gpuctl.yaml. */
export function nodesOf(config: EnvironmentConfig, settings: ComposeSettings, service: ServiceName): readonly string[] {
  const only = config.services[service]?.nodes ?? null;
  return Object.keys(settings.nodes).filter((node) => only === null || only.includes(node));
}

/** What is deployed on one node. Throws ConfigInvalid for what cannot be on hosts as it is written. */
export function nodeSettings(
  config: EnvironmentConfig,
  settings: ComposeSettings,
  node: string,
  images: CompanionImages,
): NodeSettings {
  const services = inOrder(config.services).filter(([service]) => nodesOf(config, settings, service).includes(node));
  const { ingress } = settings;
  const hasIngress = ingress?.node === node;
  const ownRedis = services.some(([, each]) => wantsRedis(each));
  if (ownRedis && images.redis === null) throw nobodysRedis(config);
  return {
    project: config.project,
    environment: config.environment,
    node,
    dataDirectory: settings.dataDirectory ?? defaultDataDirectory,
    bind: bindOf(config, settings, node),
    services: services.map(([service, { port, fallback }]) => ({ service, port, cpuFallback: fallback?.kind === "cpu" })),
    embedderUrl: embedderElsewhere(config, settings, node),
    proxyImage: images.proxy,
    redis: images.redis !== null && ownRedis ? { image: images.redis, memory: redisMemory } : null,
    tls: tlsOf(settings),
    allow: settings.allow ?? [],
    ingressAddress: ingressAddressOf(config, settings, node),
    askedFrom: askedFrom(config, settings, node),
    ingress: hasIngress
      ? {
          bind: bindOf(config, settings, node),
          port: ingressPort(settings),
          nodes: Object.keys(settings.nodes).map((each) => upstreamOf(config, settings, each)),
        }
      : null,
    budgets: { load: config.timings.load, drain: config.timings.drain },
  };
}

/** Where the ingress answers, when gpuctl.yaml does not say: the usual port of what it speaks. */
export const ingressPort = (settings: ComposeSettings): number =>
  settings.ingress?.port ?? (tlsOf(settings).mode === "off" ? 80 : 443);

/**
 * Where requests of the ingress come from, as another node sees it; null without one, and on its own node. Throws ConfigInvalid where
 * gpuctl.yaml has a name for it: proxies trust addresses.
 */
export function ingressAddressOf(config: EnvironmentConfig, settings: ComposeSettings, node: string): string | null {
  const { ingress } = settings;
  if (ingress === undefined || ingress.node === node) return null;
  const address = addressOf(config, settings, ingress.node);
  if (!isAddress(address)) throw ingressByName(config, ingress.node, node, address);
  return address;
}

/** Whether a service keeps its cache in the Redis that gpuctl runs beside it. */
export const wantsRedis = ({ env }: ServiceConfig): boolean => usesOwnRedis(env["GPUCTL_REDIS_URL"] ?? "");

const nobodysRedis = (config: EnvironmentConfig): ConfigInvalid =>
  new ConfigInvalid(`environment ${config.environment} has no image for the Redis beside its services`, {
    because: "redisUrl names that one (redis://redis:6379), and a release names its images by digest",
    nextSteps: [`images: { redis: "name@sha256:…" }   # in ${config.projectFile}`, "or name a Redis of your own in redisUrl"],
  });

/** The index has one writer: with an index on each of several nodes, each would know only what was added through it. */
export function requireOneIndex(config: EnvironmentConfig, settings: ComposeSettings): void {
  const nodes = config.services.index === undefined ? [] : nodesOf(config, settings, "index");
  if (nodes.length < 2) return;
  throw new ConfigInvalid(`the index of environment ${config.environment} would be on ${nodes.length} nodes`, {
    because: "it has one writer and its data on one node",
    nextSteps: [`services: { index: { nodes: [${nodes[0] ?? ""}] } }   # in ${config.projectFile}`],
  });
}

export function bindOf(config: EnvironmentConfig, settings: ComposeSettings, node: string): string {
  return settings.nodes[node]?.bind ?? config.bind;
}

/** Where other nodes reach a node: the address its ports are published on, else the one by which it is reached over SSH. */
function addressOf(config: EnvironmentConfig, settings: ComposeSettings, node: string): string {
  const bind = bindOf(config, settings, node);
  return /^(?:0\.0\.0\.0|::|127\.|::1$|localhost$)/.test(bind) ? (settings.nodes[node]?.host ?? bind) : bind;
}

function upstreamOf(config: EnvironmentConfig, settings: ComposeSettings, node: string): IngressUpstream {
  const services = inOrder(config.services).filter(([service]) => nodesOf(config, settings, service).includes(node));
  return {
    node,
    address: addressOf(config, settings, node),
    services: Object.fromEntries(services.map(([service, { port }]) => [service, port])),
  };
}

function embedderElsewhere(config: EnvironmentConfig, settings: ComposeSettings, node: string): string | null {
  const { embedder } = config.services;
  const there = embedderNode(config, settings, node);
  if (embedder === undefined || there === null) return null;
  return reachableUrl(addressOf(config, settings, there), embedder.port);
}

/** Whose embedder the index of a node asks; null where it has one of its own, or there is none. */
function embedderNode(config: EnvironmentConfig, settings: ComposeSettings, node: string): string | null {
  const nodes = config.services.embedder === undefined ? [] : nodesOf(config, settings, "embedder");
  return nodes.includes(node) ? null : (nodes[0] ?? null);
}

/**
 * Where the index that asks the embedder of a node does so from, as that node sees it; nothing when it has an embedder beside it. Throws
 * ConfigInvalid when only some addresses may ask, and gpuctl.yaml has a name in the place of that one.
 */
export function askedFrom(config: EnvironmentConfig, settings: ComposeSettings, node: string): readonly string[] {
  const having = config.services.index === undefined ? [] : nodesOf(config, settings, "index");
  return having
    .filter((index) => embedderNode(config, settings, index) === node)
    .map((index) => {
      const address = addressOf(config, settings, index);
      if ((settings.allow ?? []).length > 0 && !isAddress(address)) throw nameForAddress(config, index, node, address);
      return address;
    });
}

const isAddress = (text: string): boolean => /^\d+(?:\.\d+){3}$|:/.test(text);

const nameForAddress = (config: EnvironmentConfig, index: string, node: string, name: string): ConfigInvalid =>
  new ConfigInvalid(`the index on ${index} could not be let in by ${node}, whose embedder it asks`, {
    because: `allow of environment ${config.environment} goes by addresses, and ${name} is a name`,
    nextSteps: [
      `nodes: { ${index}: { bind: ADDRESS } }   # in ${config.projectFile}: the one by which ${node} sees it`,
      `services: { index: { nodes: [${node}] } }   # or beside the embedder`,
    ],
  });

const ingressByName = (config: EnvironmentConfig, ingress: string, node: string, name: string): ConfigInvalid =>
  new ConfigInvalid(`the ingress on ${ingress} could not be told from others by ${node}`, {
    because: `nodes know it by its address, and ${name} is a name`,
    nextSteps: [`nodes: { ${ingress}: { bind: ADDRESS } }   # in ${config.projectFile}: the one by which ${node} sees it`],
  });

function tlsOf({ tls }: ComposeSettings): NodeTls {
  if (tls?.mode === "acme") {
    const { domain, email = null, directory = null, directoryCa } = tls;
    return { mode: "acme", domain, email, directory, directoryCa: directoryCa !== undefined };
  }
  return { mode: tls?.mode ?? "off" };
}
