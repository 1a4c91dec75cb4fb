import type { ServiceName } from "../names.js";
import type { ServiceSettings } from "./schema-services.js";
import type { SharedEnvironmentSettings } from "./schema-targets.js";
import type { Path } from "./source.js";

/** Where an effective value came from. */
export type Origin =
  | { kind: "flag"; name: string }
  | { kind: "variable"; name: string }
  | { kind: "project-file" | "user-file"; file: string; line: number; column: number }
  /** `source` as gpuctl.yaml writes it: `stack prod`. */
  | { kind: "inventory"; source: string }
  | { kind: "default" };

/** What one source says about one environment, in the shape of an environment: settings and the services that differ. */
export interface Layer {
  settings: SharedEnvironmentSettings;
  /** Origin of a value by its path inside the environment: `bind`, `services.embedder.port`. */
  originOf(path: Path): Origin;
}

/** One effective value with its origin, as `config view` shows it. */
export interface Traced {
  path: string;
  value: string | number | boolean | null;
  origin: Origin;
}

/** What a layer says about a service, or undefined. */
export function serviceIn(layer: Layer, service: ServiceName): ServiceSettings | undefined {
  return layer.settings.services?.[service];
}

/** `--bind`, `GPUCTL_BIND`, `gpuctl.yaml:12:5`, `default`. */
export function originText(origin: Origin): string {
  switch (origin.kind) {
    case "flag":
    case "variable":
      return origin.name;
    case "project-file":
    case "user-file":
      return `${origin.file}:${origin.line}:${origin.column}`;
    case "inventory":
      return `inventory: ${origin.source}`;
    case "default":
      return "default";
  }
}
