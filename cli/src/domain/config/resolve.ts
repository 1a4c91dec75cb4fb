import { serviceNames, type Device, type ProofLevel, type ServiceName, type TargetKind } from "../names.js";
import type { MiB, Milliseconds } from "../units.js";
import {
  defaultBind,
  defaultErrorRate,
  defaultFallbackCandidates,
  defaultGateSeconds,
  defaultPorts,
  defaultRetain,
  defaultTimings,
} from "./defaults.js";
import { serviceIn, type Layer, type Origin, type Traced } from "./layers.js";
import type { EnvironmentConfig, ServiceConfig, ServiceFallback, Slo, Timings } from "./resolved.js";
import type { ServiceSettings } from "./schema-services.js";
import { optionIn, optionsOf, optionVariable } from "./service-env.js";
import { formatDuration, formatSize } from "./quantities.js";
import type { Path } from "./source.js";

/** Everything that decides one environment. `layers` are strongest first: flags, variables, project file, user file. */
export interface ResolveInput {
  project: string;
  projectFile: string;
  environment: string;
  target: TargetKind;
  models: EnvironmentConfig["models"];
  /** Services the project declares, for the environment or for all; a user's defaults cannot add one. */
  declared: readonly ServiceName[];
  layers: readonly Layer[];
}

export interface Resolution {
  config: EnvironmentConfig;
  /** Every effective value of the environment with its origin. */
  trace: readonly Traced[];
}

/** Picks the strongest layer that has a value and remembers where it came from. */
interface Picker {
  pick<Value>(
    path: Path,
    read: (layer: Layer) => Value | undefined,
    fallback: Value,
    shown?: (value: Value) => Traced["value"],
  ): Value;
  trace: Traced[];
}

function picker(layers: readonly Layer[]): Picker {
  const trace: Traced[] = [];
  return {
    trace,
    pick(path, read, fallback, shown = plain) {
      let value = fallback;
      let origin: Origin = { kind: "default" };
      for (const layer of layers) {
        const found = read(layer);
        if (found === undefined) continue;
        value = found;
        origin = layer.originOf(path);
        break;
      }
      trace.push({ path: path.join("."), value: shown(value), origin });
      return value;
    },
  };
}

const plain = (value: unknown): Traced["value"] =>
  value === null || typeof value === "string" || typeof value === "number" || typeof value === "boolean"
    ? value
    : JSON.stringify(value);

/** Applies precedence and defaults. Pure and total: what it is given has been validated. */
export function resolveEnvironment(input: ResolveInput): Resolution {
  const picked = picker(input.layers);
  const bind = picked.pick(["bind"], (layer) => layer.settings.bind, defaultBind);
  const timings = resolveTimings(picked, input.target);
  const retain = picked.pick(["retain"], (layer) => layer.settings.retain, defaultRetain);
  const services: Partial<Record<ServiceName, ServiceConfig>> = {};
  for (const service of serviceNames) {
    if (!input.declared.includes(service)) continue;
    const enabled = picked.pick(["services", service, "enabled"], (layer) => serviceIn(layer, service)?.enabled, true);
    if (enabled) services[service] = resolveService(picked, service, input.layers);
  }
  const { project, projectFile, environment, target, models } = input;
  return { config: { project, projectFile, environment, target, bind, timings, retain, services, models }, trace: picked.trace };
}

function resolveTimings(picked: Picker, target: TargetKind): Timings {
  const defaults = defaultTimings(target);
  const timing = (name: keyof Timings): Milliseconds =>
    picked.pick([name], (layer) => layer.settings[name], defaults[name], formatDuration);
  return {
    load: timing("load"),
    warmUp: timing("warmUp"),
    drain: timing("drain"),
    soak: timing("soak"),
    keepWarm: timing("keepWarm"),
  };
}

function resolveService(picked: Picker, service: ServiceName, layers: readonly Layer[]): ServiceConfig {
  const at = (...rest: string[]): Path => ["services", service, ...rest];
  const from =
    <Value>(read: (settings: ServiceSettings) => Value | undefined) =>
    (layer: Layer): Value | undefined => {
      const settings = serviceIn(layer, service);
      return settings === undefined ? undefined : read(settings);
    };
  const port = picked.pick(
    at("port"),
    from((s) => s.port),
    defaultPorts[service],
  );
  const model =
    service === "index"
      ? null
      : picked.pick<string | null>(
          at("model"),
          from((s) => ("model" in s ? s.model : undefined)),
          null,
        );
  const device = {
    prefer: picked.pick<Device | "auto">(
      at("device", "prefer"),
      from((s) => s.device?.prefer),
      "auto",
    ),
    require: picked.pick<Device | null>(
      at("device", "require"),
      from((s) => s.device?.require),
      null,
    ),
    proof: picked.pick<ProofLevel>(
      at("device", "proof"),
      from((s) => s.device?.proof),
      "self",
    ),
  };
  return {
    service,
    port,
    model,
    device,
    vramBudget: picked.pick<MiB | null>(
      at("vram"),
      from((s) => s.vram),
      null,
      (value) => (value === null ? null : formatSize(value * 2 ** 20)),
    ),
    slo: picked.pick<Slo | null>(
      at("slo"),
      from((s) => s.slo && { p95: s.slo.p95, errorRate: s.slo.errorRate ?? defaultErrorRate }),
      null,
      (value) => (value === null ? null : `p95 ${formatDuration(value.p95)}, errors ${value.errorRate}`),
    ),
    env: renderedEnv(picked, service, layers),
    secrets: merged(picked, at("secrets"), layers, (layer) => serviceIn(layer, service)?.secrets),
    benchmarkGate: picked.pick<ServiceConfig["benchmarkGate"]>(
      at("gate", "benchmark"),
      from(
        (s) => s.gate?.benchmark && { maxP95: s.gate.benchmark.maxP95, seconds: s.gate.benchmark.seconds ?? defaultGateSeconds },
      ),
      null,
    ),
    nodes: picked.pick<readonly string[] | null>(
      at("nodes"),
      from((s) => s.nodes),
      null,
    ),
    gpu: picked.pick<string | null>(
      at("gpu"),
      from((s) => s.gpu),
      null,
    ),
    fallback: picked.pick<ServiceFallback | null>(at("fallback"), from(fallbackOf), null),
  };
}

function fallbackOf(settings: ServiceSettings): ServiceFallback | undefined {
  if (!("fallback" in settings) || settings.fallback === undefined) return undefined;
  if (settings.fallback === "cpu") return { kind: "cpu" };
  return {
    kind: "model",
    model: settings.fallback.model,
    maxCandidates: settings.fallback.maxCandidates ?? defaultFallbackCandidates,
  };
}

/** Options as the settings the service reads, then the user's own variables over them. */
function renderedEnv(picked: Picker, service: ServiceName, layers: readonly Layer[]): Record<string, string> {
  const env: Record<string, string> = {};
  for (const option of optionsOf(service)) {
    const read = (layer: Layer): string | number | undefined => {
      const settings = serviceIn(layer, service);
      return settings && optionIn(settings, option);
    };
    if (!layers.some((layer) => read(layer) !== undefined)) continue;
    const value = picked.pick<string | number | undefined>(["services", service, "options", option], read, undefined);
    env[optionVariable(option)] = String(value);
  }
  return { ...env, ...merged(picked, ["services", service, "env"], layers, (layer) => serviceIn(layer, service)?.env) };
}

/** Maps are merged key by key: an environment that adds one variable keeps the others. */
function merged<Value>(
  picked: Picker,
  path: Path,
  layers: readonly Layer[],
  read: (layer: Layer) => Readonly<Record<string, Value>> | undefined,
): Record<string, Value> {
  const names = [...new Set(layers.flatMap((layer) => Object.keys(read(layer) ?? {})))].sort();
  const result: Record<string, Value> = {};
  for (const name of names) {
    const value = picked.pick<Value | undefined>([...path, name], (layer) => read(layer)?.[name], undefined);
    if (value !== undefined) result[name] = value;
  }
  return result;
}
