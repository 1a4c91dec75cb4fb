import { parseSize } from "../domain/config/quantities.js";
import type { EnvironmentConfig } from "../domain/config/resolved.js";
import { UsageError } from "../domain/errors.js";
import { builderConfig, builderName, knowsInsecure, type Builder } from "../domain/images/builder.js";
import { freedBytes, parseCacheUse, type CacheUse, type LastBuild } from "../domain/images/cache.js";
import {
  cacheUse,
  clearCache,
  createBuilder,
  registryConfig,
  removeBuilder,
  startBuilder,
} from "../domain/images/docker-commands.js";
import { localDockerError } from "../domain/images/docker-errors.js";
import { isInsecure, registryServer } from "../domain/images/registry.js";
import type { ImageTools } from "../ports/images.js";
import { askDocker, currentBuilder, inspect, longDeadline, mustDocker } from "./images-docker.js";

export interface CacheSetupRequest {
  /** Such as `20GB`. */
  limit: string;
  /** BuildKit's image, for those who cannot reach docker.io. */
  image: string | null;
}

export interface CacheSetup {
  builder: string;
  driver: string;
  limitBytes: number;
  /** `changed`: made again with other settings; its cache was kept. */
  outcome: "created" | "changed" | "present";
}

const setupAgain = "gpuctl images cache setup";

/** Makes the builder `gpuctl`, which can write SBOM and provenance and has a cache of its own with a limit; or changes its settings. */
export async function imagesCacheSetup(
  tools: ImageTools,
  config: EnvironmentConfig | null,
  request: CacheSetupRequest,
): Promise<CacheSetup> {
  const limitBytes = requireSize(request.limit);
  const found = await inspect(tools, builderName, setupAgain);
  const insecure = await insecureRegistry(tools, config);
  const setup = { builder: builderName, driver: "docker-container", limitBytes };
  if (found !== null) {
    const { builder, output } = found;
    const sameImage = request.image === null || request.image === builder.image;
    if (builder.limitBytes === limitBytes && sameImage && (insecure === null || knowsInsecure(output, insecure))) {
      await start(tools, builder, setupAgain);
      return { ...setup, outcome: "present" };
    }
    await mustDocker(tools, removeBuilder(true), attemptOf("the builder gpuctl could not be replaced", setupAgain));
  }
  const image = request.image ?? found?.builder.image ?? null;
  await create(tools, await tools.notes.builderConfig(builderConfig(limitBytes, insecure)), image);
  return { ...setup, outcome: found === null ? "created" : "changed" };
}

/** A builder that cannot start is worse than none: every build would choose it. */
async function create(tools: ImageTools, config: string, image: string | null): Promise<void> {
  tools.progress.emit({ kind: "step", text: "starting BuildKit in a container" });
  try {
    const attempt = attemptOf("the builder gpuctl could not be made", setupAgain);
    await mustDocker(tools, createBuilder(config, image), attempt, { deadline: longDeadline });
  } catch (error) {
    await askDocker({ ...tools, signal: new AbortController().signal }, removeBuilder(true), setupAgain).catch(() => null);
    throw error;
  }
}

/** The registry of the environment, when the engine talks to it without TLS: the builder must be told so too. */
async function insecureRegistry(tools: ImageTools, config: EnvironmentConfig | null): Promise<string | null> {
  const server = config === null ? null : registryServer(config);
  if (server === null) return null;
  const attempt = attemptOf("Docker could not be asked about the registry", setupAgain);
  return isInsecure(server, await mustDocker(tools, registryConfig, attempt)) ? server : null;
}

async function start(tools: ImageTools, { name, status }: Builder, again: string): Promise<void> {
  if (name !== builderName || status === "running") return;
  tools.progress.emit({ kind: "step", text: `starting the builder ${name}` });
  await mustDocker(tools, startBuilder, attemptOf(`the builder ${name} could not be started`, again), { deadline: longDeadline });
}

export interface CacheStats {
  builder: Pick<Builder, "name" | "driver" | "status" | "limitBytes">;
  /** Null while the builder is stopped: it keeps its cache and cannot be asked. */
  use: CacheUse | null;
  /** The last build that gpuctl made here, with whichever builder. */
  lastBuild: LastBuild | null;
}

/** How much the builder that gpuctl uses has cached. */
export async function imagesCacheStats(tools: ImageTools): Promise<CacheStats> {
  const again = "gpuctl images cache stats";
  const { name, driver, status, limitBytes } = await currentBuilder(tools, again);
  const use = status === "running" ? await cacheUseOf(tools, name, again) : null;
  return { builder: { name, driver, status, limitBytes }, use, lastBuild: await tools.notes.lastBuild() };
}

async function cacheUseOf(tools: ImageTools, builder: string, again: string): Promise<CacheUse> {
  const attempt = attemptOf("the size of the cache could not be asked", again);
  const output = await mustDocker(tools, cacheUse(builder), attempt);
  const use = parseCacheUse(output);
  if (use === null) throw localDockerError(attempt, "docker buildx du prints something that this gpuctl does not understand");
  return use;
}

export interface CacheClearRequest {
  /** Frees all of it. */
  confirm: boolean;
  /** Frees what is above, such as `5GB`; null without. */
  limit: string | null;
}

export interface CacheClear {
  builder: string;
  /** Whether other builds on this machine use the same cache. */
  shared: boolean;
  before: CacheUse;
  /** Null when nothing was removed yet: neither `--confirm` nor a limit was given. */
  freedBytes: number | null;
}

/** Frees the cache, all or above a limit; without either it says what it would free. */
export async function imagesCacheClear(tools: ImageTools, { confirm, limit }: CacheClearRequest): Promise<CacheClear> {
  const again = `gpuctl images cache clear${limit === null ? (confirm ? " --confirm" : "") : ` --limit ${limit}`}`;
  const keep = limit === null ? null : requireSize(limit);
  const builder = await currentBuilder(tools, again);
  await start(tools, builder, again);
  const before = await cacheUseOf(tools, builder.name, again);
  const said = { builder: builder.name, shared: builder.name !== builderName, before };
  if (!confirm && keep === null) return { ...said, freedBytes: null };
  const attempt = attemptOf("the cache could not be freed", again);
  const output = await mustDocker(tools, clearCache(builder.name, keep), attempt, { deadline: longDeadline });
  return { ...said, freedBytes: freedBytes(output) ?? 0 };
}

const attemptOf = (failure: string, again: string) => ({ failure, server: null, again });

function requireSize(text: string): number {
  const bytes = parseSize(text);
  if (bytes !== null && bytes > 0) return bytes;
  throw new UsageError(`--limit ${text} is no size`, {
    because: "expected a size such as 20GB or 512MiB, more than zero",
    nextSteps: ["--limit 20GB"],
  });
}
