import type { ServiceConfig } from "./config/resolved.js";
import type { Sha256 } from "./names.js";
import type { FallbackModel, ModelRef, ServiceSpec } from "./release.js";

/** What decides which vectors an index holds: its generation's key and their length. */
export interface VectorSpace {
  generation: string;
  dimension: number;
}

/** The parts of a spec that are not in gpuctl.yaml. */
export interface ResolvedParts {
  code: ServiceSpec["code"];
  lock: Sha256;
  model: ModelRef | null;
  /** The smaller model of the service's configuration, if it has one. */
  fallback: FallbackModel | null;
  /** HMACs, by secret name. */
  secrets: Readonly<Record<string, Sha256>>;
  /** For the index: the space of the embedder it will serve with; null without an embedder. */
  space: VectorSpace | null;
  /** For the index: where text queries are embedded; null without an embedder. */
  embedderUrl: string | null;
}

/** The vector space of a model, read from its generation key (`id@revision|pooling|normalized|prefix|dimension`). */
export function vectorSpaceOf(model: ModelRef | null): VectorSpace | null {
  if (model?.generation == null) return null;
  const dimension = Number(model.generation.slice(model.generation.lastIndexOf("|") + 1));
  return Number.isInteger(dimension) && dimension > 0 ? { generation: model.generation, dimension } : null;
}

/** Everything that decides how one service runs, from its configuration and what was resolved around it. */
export function renderSpec(config: ServiceConfig, bind: string, parts: ResolvedParts): ServiceSpec {
  const spec: ServiceSpec = {
    service: config.service,
    code: parts.code,
    python: { lock: parts.lock },
    model: parts.model,
    ...(parts.fallback === null ? {} : { fallback: parts.fallback }),
    device: config.device,
    env: { ...deviceEnv(config), ...fallbackEnv(parts), ...embedderEnv(config, parts), ...config.env },
    secrets: parts.secrets,
    listen: { host: bind, port: config.port },
  };
  return config.service === "index" && parts.space !== null ? withVectorSpace(spec, parts.space) : spec;
}

/** The same index over another embedder's vectors. These settings are never the user's: a wrong one would mix vector spaces. */
export function withVectorSpace(spec: ServiceSpec, space: VectorSpace): ServiceSpec {
  return {
    ...spec,
    env: { ...spec.env, GPUCTL_INDEX_GENERATION: space.generation, GPUCTL_INDEX_DIMENSION: String(space.dimension) },
  };
}

/** The space an index spec was rendered for. */
export function indexSpace(spec: ServiceSpec): VectorSpace | null {
  const generation = spec.env["GPUCTL_INDEX_GENERATION"];
  const dimension = Number(spec.env["GPUCTL_INDEX_DIMENSION"]);
  return generation === undefined || !(dimension > 0) ? null : { generation, dimension };
}

/** `auto` is the services' own default: left out, so that another product's variable (`FAISS_ENABLE_GPU`) may choose. */
function deviceEnv(config: ServiceConfig): Record<string, string> {
  const { prefer, require } = config.device;
  return {
    ...(prefer === "auto" ? {} : { GPUCTL_DEVICE: prefer }),
    ...(require === null ? {} : { GPUCTL_REQUIRE: require }),
    // A boundary of its latency histograms, so that the share above it is counted and not guessed.
    ...(config.slo === null ? {} : { GPUCTL_SLO_MS: String(config.slo.p95) }),
    // The index's GPU replica has a budget of its own.
    ...(config.vramBudget === null || config.service === "index" ? {} : { GPUCTL_VRAM_MIB: String(config.vramBudget) }),
  };
}

function fallbackEnv({ fallback }: ResolvedParts): Record<string, string> {
  return fallback === null ? {} : { GPUCTL_FALLBACK_MAX_CANDIDATES: String(fallback.maxCandidates) };
}

function embedderEnv(config: ServiceConfig, parts: ResolvedParts): Record<string, string> {
  return config.service === "index" && parts.embedderUrl !== null ? { GPUCTL_EMBEDDER_URL: parts.embedderUrl } : {};
}

/** Where a service of this machine reaches another one's public socket: a wildcard bind is not an address to connect to. */
export function reachableUrl(host: string, port: number): string {
  const address = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return `http://${address.includes(":") ? `[${address}]` : address}:${port}`;
}
