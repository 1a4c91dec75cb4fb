import { modelsOf, type ServiceSpec } from "../release.js";
import type { Milliseconds } from "../units.js";
import { containerUser, inside, insidePort, internalPort, sockets } from "./inside.js";
import { labelsOf } from "./labels.js";
import type { HostLayout } from "./layout.js";
import { containerName, modelVolume } from "./names.js";
import type { ComposeNode, HostInstance } from "./node.js";
import type { YamlValue } from "./yaml.js";

/** The services finish requests for so long after SIGTERM, whatever `drain` says (gpuctl_serving, DRAIN_SECONDS). */
const ownDrainMs = 30_000;
/** What a container may take from SIGTERM to its end beyond that: closing engines, writing a snapshot's end. */
const closingMs = 15_000;
/** Threads count as pids: an engine has some for each core, a front process a few dozen. */
const pidsLimit = 2048;

/** One instance as a service of the node's Compose file. */
export function instanceService(node: ComposeNode, layout: HostLayout, instance: HostInstance): YamlValue {
  const { service, slot } = instance;
  return {
    image: instance.image,
    pull_policy: "never",
    container_name: containerName({ ...node, service, slot }),
    command: ["gpuctl-service", service],
    environment: environmentOf(node, instance),
    user: containerUser,
    // Process 1 ignores SIGTERM until it has a handler, which a service that still imports has not: Docker's init hands it on.
    init: true,
    networks: networksOf(node, instance),
    volumes: mountsOf(layout, instance),
    ...hardening,
    tmpfs: ["/tmp:size=512m,mode=1777,nosuid,nodev"],
    deploy: { resources: resourcesOf(node, instance) },
    healthcheck: {
      // Asks over the private socket, whatever the gate says.
      test: ["CMD", "gpuctl-service", "ready"],
      interval: "10s",
      timeout: "5s",
      retries: 3,
      start_period: secondsOf(node.budgets.load),
      start_interval: "2s",
    },
    restart,
    stop_grace_period: secondsOf(Math.max(node.budgets.drain, ownDrainMs) + closingMs),
    logging,
    labels: labelsOf(node, instance),
  };
}

/** What every container of ours goes without. */
export const hardening = { read_only: true, cap_drop: ["ALL"], security_opt: ["no-new-privileges:true"] } as const;

/**
 * `unless-stopped` would not do: after an engine that crashed (not one that was restarted), Docker 28 ends what survived it and takes
 * that for a person's stop. A candidate that was not switched to yet runs under `docker update --restart no`, so that one which
 * exits while loading stays exited; Compose does not see that, and its file stays true.
 */
export const restart = "always";

/** At most 100 MiB of logs a container, compressed; `docker logs` reads all of it. */
export const logging = { driver: "local", options: { "max-size": "20m", "max-file": "5" } } as const;

/** Whole seconds for Compose, rounded up. */
export const secondsOf = (duration: Milliseconds | number): string => `${Math.ceil(duration / 1000)}s`;

/**
 * Nine tenths of the host for any one instance: what leaks or grows without end is killed before the host's own processes are (sshd,
 * Docker). It does not share the host out. What an instance needs is measured on the GPU only; an index grows with its texts, a queue
 * with its requests, and a guess that is too small kills what serves.
 */
const instanceMemory = (node: ComposeNode): number => Math.floor(node.hostMemory * 0.9);

function resourcesOf(node: ComposeNode, { gpu }: HostInstance): YamlValue {
  return {
    limits: { memory: `${instanceMemory(node)}m`, pids: pidsLimit },
    ...(gpu === null ? {} : { reservations: { devices: [{ driver: "cdi", device_ids: [gpu], capabilities: ["gpu"] }] } }),
  };
}

function environmentOf(node: ComposeNode, instance: HostInstance): Record<string, string> {
  const { spec, service } = instance;
  const secrets = Object.keys(spec.secrets);
  const rendered: Record<string, string> = {
    ...(instance.slot === "cpu" ? onCpu(spec) : spec.env),
    // From here on nothing may be overridden: these are what the record and the places pin.
    HOME: "/tmp",
    GPUCTL_HOST: "0.0.0.0",
    GPUCTL_PORT: String(insidePort[service]),
    GPUCTL_INSTANCE_FILE: `${inside.run}/${instance.id}/${sockets.document}`,
    ...(spec.model === null ? {} : { GPUCTL_MODEL_DIR: inside.model }),
    ...(spec.fallback === undefined ? {} : { GPUCTL_FALLBACK_MODEL_DIR: inside.fallbackModel }),
    ...(service === "index" ? { GPUCTL_INDEX_DIR: inside.index, ...embedderUrl(node) } : {}),
    ...(secrets.length === 0 ? {} : { GPUCTL_SECRETS_DIR: inside.secrets }),
    ...(secrets.includes("API_KEYS") ? { GPUCTL_API_KEYS_FILE: `${inside.secrets}/API_KEYS` } : {}),
  };
  return sorted(rendered);
}

/** Through the node's own proxy, so that the index follows the embedder over every switch. */
function embedderUrl(node: ComposeNode): Record<string, string> {
  if (node.services.some(({ service }) => service === "embedder"))
    return { GPUCTL_EMBEDDER_URL: `http://proxy:${internalPort.embedder}` };
  return node.embedderUrl === null ? {} : { GPUCTL_EMBEDDER_URL: node.embedderUrl };
}

/** Settings that speak of the device the spec wishes; a CPU instance goes by what is best on a CPU. */
const ofTheDevice = ["GPUCTL_REQUIRE", "GPUCTL_VRAM_MIB", "GPUCTL_ENGINE", "GPUCTL_DTYPE", "GPUCTL_MAX_BATCH_TOKENS"];

function onCpu(spec: ServiceSpec): Record<string, string> {
  const kept = Object.entries(spec.env).filter(([name]) => !ofTheDevice.includes(name));
  return { ...Object.fromEntries(kept), GPUCTL_DEVICE: "cpu" };
}

const sorted = (values: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1)));

function mountsOf(layout: HostLayout, { spec, service, release }: HostInstance): YamlValue[] {
  return [
    bind(layout.run, inside.run, "read-write"),
    bind(layout.gates, inside.gates, "read-only"),
    ...(Object.keys(spec.secrets).length === 0 ? [] : [bind(layout.secretsFor(release, service), inside.secrets, "read-only")]),
    ...(spec.model === null ? [] : [volume(modelVolume(spec.model), inside.model)]),
    ...(spec.fallback === undefined ? [] : [volume(modelVolume(spec.fallback.model), inside.fallbackModel)]),
    ...(service === "index" ? [bind(layout.index, inside.index, "read-write")] : []),
  ];
}

/** A directory of the host. One that is missing is an error; by itself Docker would make an empty one that belongs to root. */
export const bind = (source: string, target: string, access: "read-only" | "read-write"): YamlValue => ({
  type: "bind",
  source,
  target,
  ...(access === "read-only" ? { read_only: true } : {}),
  bind: { create_host_path: false },
});

const volume = (source: string, target: string): YamlValue => ({ type: "volume", source, target, read_only: true });

/** Volumes of the models that the node's instances need. They outlive the project, so `docker compose down -v` leaves them. */
export function modelVolumes(instances: readonly HostInstance[]): Record<string, YamlValue> {
  const names = new Set(instances.flatMap(({ spec }) => modelsOf(spec).map(modelVolume)));
  return Object.fromEntries([...names].sort().map((name) => [name, { name, external: true }]));
}

/** Services run offline. Only one that is configured to ask something outside of the project gets a way out. */
function networksOf(node: ComposeNode, { service, spec }: HostInstance): string[] {
  const redis = spec.env["GPUCTL_REDIS_URL"];
  const foreignRedis = redis !== undefined && redis !== "" && !usesOwnRedis(redis);
  const foreignEmbedder = service === "index" && node.embedderUrl !== null;
  return foreignRedis || foreignEmbedder ? ["inside", "outside"] : ["inside"];
}

/** Whether a Redis URL means the one that gpuctl runs beside the services: its host is plainly `redis`. */
export function usesOwnRedis(url: string): boolean {
  return /^redis:\/\/(?:[^@/]*@)?redis(?::6379)?(?:\/|$)/.test(url);
}
