import type { ServiceName } from "../names.js";
import type { ServiceSettings } from "./schema-services.js";

/** Variables that gpuctl itself gives to a service (docs/architecture.md): a user's value would contradict the release record. */
const controlled: ReadonlySet<string> = new Set([
  "GPUCTL_HOST",
  "GPUCTL_PORT",
  "GPUCTL_INSTANCE_FILE",
  "GPUCTL_LISTEN_FD",
  "GPUCTL_MODEL_DIR",
  "GPUCTL_FALLBACK_MODEL_DIR",
  "GPUCTL_FALLBACK_MAX_CANDIDATES",
  "GPUCTL_DEVICE",
  "GPUCTL_REQUIRE",
  "GPUCTL_VRAM_MIB",
  "GPUCTL_SLO_MS",
  "GPUCTL_API_KEYS_FILE",
  "GPUCTL_SECRETS_DIR",
  "GPUCTL_INDEX_DIR",
  "GPUCTL_INDEX_GENERATION",
  "GPUCTL_EMBEDDER_URL",
  "PYTHONPATH",
  "PATH",
  "HOME",
]);

/** What to write instead of a controlled variable, or null when the variable is the user's own business. */
export function controlledVariable(name: string): string | null {
  if (!controlled.has(name)) return null;
  switch (name) {
    case "GPUCTL_HOST":
      return "set `bind` of the environment";
    case "GPUCTL_PORT":
      return "set `port` of the service";
    case "GPUCTL_MODEL_DIR":
      return "set `model` of the service";
    case "GPUCTL_FALLBACK_MODEL_DIR":
    case "GPUCTL_FALLBACK_MAX_CANDIDATES":
      return "set `fallback: { model, maxCandidates }` of the reranker";
    case "GPUCTL_DEVICE":
    case "GPUCTL_REQUIRE":
      return "set `device` of the service";
    case "GPUCTL_SLO_MS":
      return "set `slo` of the service";
    case "GPUCTL_VRAM_MIB":
      return "set `vram` of the service";
    case "GPUCTL_API_KEYS_FILE":
    case "GPUCTL_SECRETS_DIR":
      return "declare the secret under `secrets`; one named API_KEYS becomes the service's API keys";
    default:
      return "remove it: gpuctl sets it for every instance";
  }
}

/** Setting that each option becomes, as the services read them. */
const variableOf = {
  engine: "GPUCTL_ENGINE",
  dtype: "GPUCTL_DTYPE",
  maxBatchTokens: "GPUCTL_MAX_BATCH_TOKENS",
  maxQueueTokens: "GPUCTL_MAX_QUEUE_TOKENS",
  degradedQueueTokens: "GPUCTL_DEGRADED_QUEUE_TOKENS",
  fallbackLoad: "GPUCTL_FALLBACK_LOAD",
  hang: "GPUCTL_HANG_MS",
  maxTokens: "GPUCTL_MAX_TOKENS",
  cacheEntries: "GPUCTL_CACHE_ENTRIES",
  cacheBytes: "GPUCTL_CACHE_BYTES",
  cacheTtl: "GPUCTL_CACHE_TTL_MS",
  redisUrl: "GPUCTL_REDIS_URL",
  redisTimeout: "GPUCTL_REDIS_TIMEOUT_MS",
  maxItems: "GPUCTL_MAX_ITEMS",
  maxBodyBytes: "GPUCTL_MAX_BODY_BYTES",
  deadline: "GPUCTL_DEADLINE_MS",
  threads: "GPUCTL_THREADS",
  logLevel: "GPUCTL_LOG_LEVEL",
  rateLimit: "GPUCTL_RATE_LIMIT",
  corsOrigins: "GPUCTL_CORS_ORIGINS",
  metrics: "GPUCTL_METRICS",
  slow: "GPUCTL_SLOW_MS",
  dimension: "GPUCTL_INDEX_DIMENSION",
  indexType: "GPUCTL_INDEX_TYPE",
  indexNlist: "GPUCTL_INDEX_NLIST",
  indexPqM: "GPUCTL_INDEX_PQ_M",
  indexRecall: "GPUCTL_INDEX_RECALL",
  indexReplicaFrom: "GPUCTL_INDEX_REPLICA_FROM",
  indexReplicaWrites: "GPUCTL_INDEX_REPLICA_WRITES",
  indexReplicaSeconds: "GPUCTL_INDEX_REPLICA_SECONDS",
  indexReplicaTimeout: "GPUCTL_INDEX_REPLICA_TIMEOUT_MS",
  indexGpuTempMib: "GPUCTL_INDEX_GPU_TEMP_MIB",
  indexFsync: "GPUCTL_INDEX_FSYNC",
  indexFsyncMs: "GPUCTL_INDEX_FSYNC_MS",
  indexSegmentMb: "GPUCTL_INDEX_SEGMENT_MB",
  indexSnapshotSeconds: "GPUCTL_INDEX_SNAPSHOT_SECONDS",
  indexSnapshotWrites: "GPUCTL_INDEX_SNAPSHOT_WRITES",
  indexSnapshotsKept: "GPUCTL_INDEX_SNAPSHOTS_KEPT",
} as const;

export type OptionName = keyof typeof variableOf;
export const optionNames = Object.keys(variableOf) as readonly OptionName[];
export const optionVariable = (option: OptionName): string => variableOf[option];

/** Value of one option of a service's settings; undefined when it is not set or the service has no such option. */
export function optionIn(settings: ServiceSettings, option: OptionName): string | number | undefined {
  const options: Readonly<Partial<Record<OptionName, string | number | undefined>>> = settings.options ?? {};
  return options[option];
}

const modelOnly: readonly OptionName[] = [
  "engine",
  "dtype",
  "maxBatchTokens",
  "maxQueueTokens",
  "degradedQueueTokens",
  "fallbackLoad",
  "hang",
  "maxTokens",
  "cacheEntries",
  "cacheBytes",
  "cacheTtl",
  "redisUrl",
  "redisTimeout",
];
const indexOnly: readonly OptionName[] = [
  "dimension",
  "indexType",
  "indexNlist",
  "indexPqM",
  "indexRecall",
  "indexReplicaFrom",
  "indexReplicaWrites",
  "indexReplicaSeconds",
  "indexReplicaTimeout",
  "indexGpuTempMib",
  "indexFsync",
  "indexFsyncMs",
  "indexSegmentMb",
  "indexSnapshotSeconds",
  "indexSnapshotWrites",
  "indexSnapshotsKept",
];

/** Options that a service has. */
export function optionsOf(service: ServiceName): readonly OptionName[] {
  const others = service === "index" ? modelOnly : indexOnly;
  return optionNames.filter((option) => !others.includes(option));
}
