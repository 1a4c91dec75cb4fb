import { canonicalJson, sha256 } from "../canonical.js";
import { ConfigInvalid } from "../errors.js";
import type { Sha256 } from "../names.js";
import { containerUser, inside, insidePort, plainPort, tlsPort } from "./inside.js";
import { bind, hardening, instanceService, logging, modelVolumes, restart } from "./instance-service.js";
import { companionLabels, configLabel } from "./labels.js";
import { HostLayout } from "./layout.js";
import { composeProject, slotName } from "./names.js";
import type { ComposeNode, HostInstance } from "./node.js";
import { composeYaml, type YamlValue } from "./yaml.js";

/**
 * The Compose file of one node: an instance in each place that shall have one, the proxy before them, and what else belongs to
 * the environment there. Pure and canonical: the same node gives the same bytes, so that `docker compose up -d` on the host
 * changes nothing when nothing changed. Throws ConfigInvalid for an image that is not pinned.
 */
export function renderCompose(node: ComposeNode): string {
  const layout = new HostLayout(node.dataDirectory, node.project, node.environment);
  const instances = node.services.flatMap((service) => service.instances).sort(byPlace);
  for (const { id, image } of instances) requirePinned(id, image);
  requirePinned("the proxy", node.proxyImage);
  const services: Record<string, YamlValue> = {};
  for (const instance of instances) services[slotName(instance.service, instance.slot)] = instanceService(node, layout, instance);
  for (const { role, config } of companions(node)) services[role] = config;
  const project = composeProject(node.project, node.environment);
  const volumes = modelVolumes(instances);
  return composeYaml(
    {
      name: project,
      services,
      // Nothing inside can reach the world; the proxy alone is on both, and whoever is configured to ask something outside.
      networks: { inside: { name: `${project}_inside`, internal: true }, outside: { name: `${project}_outside` } },
      volumes: Object.keys(volumes).length === 0 ? undefined : volumes,
    },
    header(node),
  );
}

export const companionRoles = ["proxy", "ingress", "redis"] as const;
export type CompanionRole = (typeof companionRoles)[number];

export const companionName = ({ project, environment }: ComposeNode, role: CompanionRole): string =>
  `${composeProject(project, environment)}_${role}`;

/** What stands beside the instances, as services of the Compose file. */
export interface Companion {
  role: CompanionRole;
  container: string;
  config: Record<string, YamlValue>;
  /** Hash of its configuration: a container with this label needs no `docker compose up`. */
  hash: Sha256;
}

export function companions(node: ComposeNode): readonly Companion[] {
  const layout = new HostLayout(node.dataDirectory, node.project, node.environment);
  const found: readonly (readonly [Companion["role"], Record<string, YamlValue>])[] = [
    ...(node.services.length > 0 ? ([["proxy", proxyService(node, layout)]] as const) : []),
    ...(node.ingress === null ? [] : ([["ingress", ingressService(node, layout)]] as const)),
    ...(node.redis === null ? [] : ([["redis", redisService(node, node.redis)]] as const)),
  ];
  return found.map(([role, config]) => {
    const hash = sha256(canonicalJson(config));
    const labels = { ...companionLabels(node, role), [configLabel]: hash };
    return { role, container: companionName(node, role), config: { ...config, labels }, hash };
  });
}

const header = (node: ComposeNode): string =>
  `Environment ${node.environment} of project ${node.project}, node ${node.node}. Written by gpuctl, replaced by its next deploy.
README.txt beside this file says how to look at it and how to operate it by hand.`;

const byPlace = (a: HostInstance, b: HostInstance): number =>
  slotName(a.service, a.slot) < slotName(b.service, b.slot) ? -1 : 1;

/** A tag may mean another image tomorrow; a release must not. */
function requirePinned(what: string, image: string): void {
  if (/^(?:[^@\s]+@)?sha256:[0-9a-f]{64}$/.test(image)) return;
  throw new ConfigInvalid(`the image of ${what} is not pinned: ${image}`, {
    because: "a release names its images by digest, so that a rollback brings back the same bytes",
    nextSteps: ["gpuctl images push", "or write the image as name@sha256:…"],
  });
}

function proxyService(node: ComposeNode, layout: HostLayout): Record<string, YamlValue> {
  const ports = node.services.map(({ service, port }) => published(node.bind, port, insidePort[service]));
  const challenge = node.tls.mode === "acme" && node.ingress === null ? [published(node.bind, 80, plainPort)] : [];
  return caddyService(node, "proxy", [...ports, ...challenge], {
    config: layout.proxy,
    data: layout.proxyData,
    run: layout.proxyRun,
  });
}

function ingressService(node: ComposeNode, layout: HostLayout): Record<string, YamlValue> {
  const { bind: address, port } = node.ingress ?? { bind: node.bind, port: 80 };
  const ports = [published(address, port, node.tls.mode === "off" ? plainPort : tlsPort)];
  if (node.tls.mode === "acme" && port !== 80) ports.push(published(address, 80, plainPort));
  return caddyService(node, "ingress", ports, { config: layout.ingress, data: layout.ingressData, run: layout.ingressRun });
}

interface CaddyDirectories {
  config: string;
  data: string;
  run: string;
}

/**
 * Memory of a Caddy, MiB. It passes bodies on as they come: idle it holds 45 MiB, and 150 KiB more for each request (measured with up to
 * 2000 at once over TLS, of 200 KB each). So this is for some 6000 requests at once, and instances say 429 long before that.
 */
const caddyMiB = 1024;

function caddyService(
  node: ComposeNode,
  role: "proxy" | "ingress",
  ports: readonly YamlValue[],
  directories: CaddyDirectories,
): Record<string, YamlValue> {
  const memory = Math.min(caddyMiB, Math.floor(node.hostMemory * 0.5));
  const home = inside.proxyData;
  return {
    image: node.proxyImage,
    pull_policy: "never",
    container_name: companionName(node, role),
    command: ["caddy", "run", "--config", `${inside.proxyConfig}/Caddyfile`, "--adapter", "caddyfile"],
    // It tidies up harder before it comes near its limit: above that the kernel ends it, and every request with it.
    environment: { GOMEMLIMIT: `${Math.floor(memory * 0.9)}MiB`, HOME: home, XDG_CONFIG_HOME: home, XDG_DATA_HOME: home },
    user: containerUser,
    networks: ["inside", "outside"],
    ports,
    volumes: [
      bind(directories.config, inside.proxyConfig, "read-only"),
      bind(directories.data, inside.proxyData, "read-write"),
      bind(directories.run, inside.proxyRun, "read-write"),
    ],
    ...hardening,
    // Caddy's binary carries this capability; with it out of reach the kernel refuses to start the binary at all.
    cap_add: ["NET_BIND_SERVICE"],
    deploy: { resources: { limits: { memory: `${memory}m`, pids: 1024 } } },
    restart,
    stop_grace_period: "45s",
    logging,
  };
}

/** On one address of the host and on no other: Docker publishes past the host's own firewall. */
const published = (address: string, port: number, target: number): YamlValue => ({
  target,
  published: String(port),
  host_ip: address,
  protocol: "tcp",
});

/**
 * A cache that may be lost at any time: nothing on disk, the least used answers forgotten first, no way in from outside. Made for the
 * official image and what behaves like it. Its entrypoint gives up root by itself, which it has no right to here (`hardening`): an older one
 * ends, a newer one stays root. With `user` it goes straight to the server. The server writes nothing, but begins in /data, which older
 * images declare a volume: Docker would make one for every container. Official images have protected mode off, others (Debian's) refuse
 * everybody but their own container without it.
 */
function redisService(node: ComposeNode, { image, memory }: NonNullable<ComposeNode["redis"]>): Record<string, YamlValue> {
  requirePinned("redis", image);
  const settings = {
    "protected-mode": "no",
    save: "",
    appendonly: "no",
    maxmemory: `${memory}mb`,
    "maxmemory-policy": "allkeys-lfu",
  };
  return {
    image,
    pull_policy: "never",
    container_name: companionName(node, "redis"),
    command: ["redis-server", ...Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])],
    user: containerUser,
    networks: ["inside"],
    ...hardening,
    tmpfs: ["/data:size=1m,mode=1777,nosuid,nodev"],
    // Above what it may keep: copies of buffers and its own tables.
    deploy: { resources: { limits: { memory: `${Math.ceil(memory * 1.5) + 64}m`, pids: 256 } } },
    healthcheck: { test: ["CMD", "redis-cli", "ping"], interval: "10s", timeout: "3s", retries: 3 },
    restart,
    logging,
  };
}
