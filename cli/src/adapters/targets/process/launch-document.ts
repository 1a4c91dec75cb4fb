import { join } from "node:path";
import { fingerprintOf } from "../../../domain/fingerprint.js";
import type { InstanceId, ServiceName, Sha256, Slot } from "../../../domain/names.js";
import type { InstanceSpec } from "../../../ports.js";
import { pythonOf } from "./python-environment.js";
import type { StateLayout } from "./state-layout.js";

/** `instances/<id>.json`: everything the keeper needs to start an instance (docs/architecture.md). */
export interface LaunchDocument {
  schemaVersion: 1;
  id: InstanceId;
  service: ServiceName;
  release: string;
  slot: Slot;
  fingerprint: Sha256;
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  listen: { host: string; port: number };
  private: string;
  control: string;
  log: string;
}

/** Where a spec's parts were found on this machine. */
export interface Placement {
  layout: StateLayout;
  /** The Python environment's directory. */
  python: string;
  /** Null for the index. */
  modelDirectory: string | null;
  /** Of the smaller model that answers when the main one cannot; null when none is configured. */
  fallbackDirectory: string | null;
  secretNames: readonly string[];
}

/** Renders how an instance is started here: the spec's own settings, and the paths that a record never holds. */
export function launchDocument(instance: InstanceSpec, placement: Placement): LaunchDocument {
  const { id, service, release, slot, spec } = instance;
  const { layout } = placement;
  return {
    schemaVersion: 1,
    id,
    service,
    release,
    slot,
    fingerprint: fingerprintOf(spec),
    argv: [pythonOf(placement.python), "-m", `gpuctl_serving.${service}`],
    env: environment(instance, placement),
    listen: spec.listen,
    private: layout.private(id),
    control: layout.control(id),
    log: layout.log(id),
  };
}

function environment({ id, service, spec }: InstanceSpec, placement: Placement): Record<string, string> {
  const { layout, modelDirectory, fallbackDirectory, secretNames } = placement;
  const secrets = layout.secretsOf(id);
  return {
    ...spec.env,
    // From here on nothing may be overridden: these are what the record pins.
    PYTHONPATH: layout.wheel(spec.code.wheel),
    ...(modelDirectory === null ? {} : { GPUCTL_MODEL_DIR: modelDirectory }),
    ...(fallbackDirectory === null ? {} : { GPUCTL_FALLBACK_MODEL_DIR: fallbackDirectory }),
    ...(service === "index" ? { GPUCTL_INDEX_DIR: layout.index } : {}),
    ...(secretNames.length === 0 ? {} : { GPUCTL_SECRETS_DIR: secrets }),
    ...(secretNames.includes("API_KEYS") ? { GPUCTL_API_KEYS_FILE: join(secrets, "API_KEYS") } : {}),
  };
}
