import type { NodeSummary } from "./preflight/node-summary.js";
import type { Device, InstanceId, ProofLevel, ReleaseId, ServiceName, Sha256, Slot, TargetKind } from "./names.js";

/** A model pinned to one revision, with the hash of every file (from the model's manifest). */
export interface ModelRef {
  /** Name in gpuctl.yaml's `models`. */
  name: string;
  /** Upstream id, for example `sentence-transformers/all-MiniLM-L6-v2`. */
  id: string;
  revision: string;
  /** SHA-256 of manifest.json, which in turn holds the hash of every file. */
  manifest: Sha256;
  files: Readonly<Record<string, Sha256>>;
  /** What decides the vector space: equal identities mean comparable vectors. Null for a cross-encoder. */
  generation: string | null;
}

/** A smaller model that answers while the main one cannot run on its device (reranker only). */
export interface FallbackModel {
  model: ModelRef;
  /** Most candidates it ranks; the others follow unranked. */
  maxCandidates: number;
}

/** Everything that decides how one service runs. Two equal specs behave alike; nothing outside it matters. */
export interface ServiceSpec {
  service: ServiceName;
  /** The wheel by its hash and file name. On targets of containers the image: its digest, and `name@sha256:…` in place of the file. */
  code: { wheel: Sha256; file: string; version: string };
  /** Hash of the lock of Python packages; the image's digest where an image holds them. */
  python: { lock: Sha256 };
  model: ModelRef | null;
  /** Absent when none is configured, so that such a spec keeps its fingerprint. */
  fallback?: FallbackModel;
  device: { prefer: Device | "auto"; require: Device | null; proof: ProofLevel };
  /** Complete rendered environment of settings (`GPUCTL_*` and the user's own), without secrets and without node paths. */
  env: Readonly<Record<string, string>>;
  /** Name of the secret -> HMAC-SHA256 of its value under the environment's own key. Values are never here. */
  secrets: Readonly<Record<string, Sha256>>;
  listen: { host: string; port: number };
}

/** Every model that a spec needs on its node. */
export function modelsOf({ model, fallback }: ServiceSpec): readonly ModelRef[] {
  return [...(model === null ? [] : [model]), ...(fallback === undefined ? [] : [fallback.model])];
}

export interface GateResult {
  service: ServiceName;
  /** Where it was judged, on targets of several nodes. */
  node?: string;
  gate: "load" | "warm-up" | "device-proof" | "correctness" | "benchmark" | "soak";
  outcome: "passed" | "failed" | "skipped";
  /** One sentence with the figures that decided it. */
  detail: string;
  figures?: Readonly<Record<string, number | string | boolean>>;
}

/** One service's part of a release. `since` names the release that introduced this exact spec: its instance carries that id. */
export interface ServiceRelease {
  spec: ServiceSpec;
  /** SHA-256 of the canonical JSON of `spec`. */
  fingerprint: Sha256;
  since: ReleaseId;
  slot: Slot;
  /** Peak memory seen while warm-up ran its worst batch, MiB; null until measured. RSS on cpu, VRAM on cuda. */
  peakMiB: number | null;
  proof: { device: Device; level: ProofLevel } | null;
}

/** How long a release took until traffic had moved to it, as measured from the beginning of its command. */
export interface Took {
  /** `warm`: by instances that still ran. `cached`: by instances that were started from files that were there. `cold`: files were fetched first. */
  path: "warm" | "cached" | "cold";
  /** Milliseconds, without waiting for a lease; of a deploy also without staging, so that it tells how long a cached rollback takes. */
  movedMs: number;
}

export type ReleaseState =
  /** Written before anything starts. */
  | "candidate"
  /** Traffic was moved to it; the soak has not ended. */
  | "switched"
  | "good"
  | "failed";

/**
 * The immutable, complete record of what runs: from it alone a release is started again. Only `state` and the result fields below it
 * are completed later.
 */
export interface ReleaseRecord {
  schemaVersion: 1;
  id: ReleaseId;
  number: number;
  project: string;
  environment: string;
  target: TargetKind;
  services: Readonly<Partial<Record<ServiceName, ServiceRelease>>>;
  parent: ReleaseId | null;
  rollbackOf: ReleaseId | null;
  author: string;
  /** ISO 8601 UTC; for people only, order is by `number` because clocks move. */
  createdAt: string;
  gpuctl: string;
  state: ReleaseState;
  gates: readonly GateResult[];
  /** On targets of nodes: what each was when it was looked at last, for this release or an earlier one. */
  nodes?: readonly NodeSummary[];
  /** How it came into service, and how long that took. Absent until traffic had moved. */
  took?: Took;
  /** Services whose old instances had to stop before the new ones started: there is no room for both. Absent when there were none. */
  stopFirst?: readonly ServiceName[];
  /** On targets of nodes: those that did not answer and were passed by, and that were not brought level since. */
  leftOut?: readonly string[];
  /** Why it failed, or null. */
  failure: string | null;
  finishedAt: string | null;
}

export const instanceId = (service: ServiceName, since: ReleaseId, slot: Slot): InstanceId => `${service}-${since}-${slot}`;
