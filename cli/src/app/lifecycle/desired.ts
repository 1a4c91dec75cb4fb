import type { EnvironmentConfig, ServiceConfig } from "../../domain/config/resolved.js";
import { ConfigInvalid, UsageError } from "../../domain/errors.js";
import { inOrder, type PerService } from "../../domain/fingerprint.js";
import { serviceNames, type ServiceName } from "../../domain/names.js";
import type { FallbackModel, ModelRef, ReleaseRecord, ServiceSpec } from "../../domain/release.js";
import { reachableUrl, renderSpec, vectorSpaceOf, withVectorSpace } from "../../domain/spec.js";
import type { Context } from "../../ports.js";

/** Secret values by name. They live in memory from here to the store's own file and the start of an instance, nowhere else. */
export type SecretValues = Readonly<Record<string, string>>;

/** What the environment shall run, complete, with the secrets of the services that were resolved now. */
export interface Desired {
  specs: PerService<ServiceSpec>;
  secrets: PerService<SecretValues>;
  /** Sentences worth saying about how the set came about. */
  notes: readonly string[];
}

/** Checks a service name typed by a person against the project file. */
export function configuredService(config: EnvironmentConfig, name: string): ServiceName {
  const configured = inOrder(config.services).map(([service]) => service);
  const found = configured.find((service) => service === name);
  if (found !== undefined) return found;
  throw new UsageError(`there is no service ${name} in environment ${config.environment}`, {
    because: `its services are ${configured.join(", ")}`,
    nextSteps: configured.slice(0, 1).map((service) => `gpuctl deploy ${service}`),
  });
}

/**
 * Resolves code, models and secrets of every service, or of one: then the others stay what the current release runs,
 * except that an index follows its embedder into another vector space.
 */
export async function resolveDesired(ctx: Context, only: ServiceName | null, current: ReleaseRecord | null): Promise<Desired> {
  const wanted = inOrder(ctx.config.services).filter(([service]) => only === null || service === only);
  if (wanted.length === 0) throw new ConfigInvalid(`environment ${ctx.config.environment} has no services`);
  const specs: Partial<Record<ServiceName, ServiceSpec>> = {};
  const secrets: Partial<Record<ServiceName, SecretValues>> = {};
  if (only !== null) for (const [service, release] of inOrder(current?.services ?? {})) specs[service] = release.spec;
  for (const [service, config] of wanted) {
    const code = await ctx.code.current(config);
    const values = await readSecrets(ctx, config);
    const embedder = specs.embedder;
    const model = await modelOf(ctx, config);
    secrets[service] = values;
    specs[service] = renderSpec(config, ctx.config.bind, {
      code: { wheel: code.wheel, file: code.file, version: code.version },
      lock: code.lock,
      model,
      fallback: await fallbackOf(ctx, config),
      secrets: await hmacs(ctx, values),
      space: vectorSpaceOf(embedder?.model ?? null),
      embedderUrl: embedder === undefined ? null : reachableUrl(embedder.listen.host, embedder.listen.port),
    });
  }
  return { specs: followEmbedder(specs, only), secrets, notes: notesOn(specs, only) };
}

async function modelOf(ctx: Context, config: ServiceConfig): Promise<ModelRef | null> {
  return config.model === null ? null : (await ctx.models.resolve(config.model, ctx.config)).ref;
}

async function fallbackOf(ctx: Context, { fallback }: ServiceConfig): Promise<FallbackModel | null> {
  if (fallback?.kind !== "model") return null;
  return { model: (await ctx.models.resolve(fallback.model, ctx.config)).ref, maxCandidates: fallback.maxCandidates };
}

async function readSecrets(ctx: Context, config: ServiceConfig): Promise<SecretValues> {
  const values: Record<string, string> = {};
  for (const [name, source] of Object.entries(config.secrets)) values[name] = await ctx.secrets.read(name, source);
  return values;
}

async function hmacs(ctx: Context, values: SecretValues): Promise<Readonly<Record<string, string>>> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(values)) result[name] = await ctx.releases.hmac(value);
  return result;
}

/** Embedder and index switch together: an index that answers with another embedder's vectors would be wrong, not old. */
function followEmbedder(specs: PerService<ServiceSpec>, only: ServiceName | null): PerService<ServiceSpec> {
  const space = vectorSpaceOf(specs.embedder?.model ?? null);
  if (only !== "embedder" || specs.index === undefined || space === null) return specs;
  return { ...specs, index: withVectorSpace(specs.index, space) };
}

function notesOn(specs: PerService<ServiceSpec>, only: ServiceName | null): readonly string[] {
  const followed = followEmbedder(specs, only);
  const moved =
    serviceNames.includes("index") &&
    followed.index?.env["GPUCTL_INDEX_GENERATION"] !== specs.index?.env["GPUCTL_INDEX_GENERATION"];
  return moved ? ["the index switches with the embedder, because the embedder's vectors change"] : [];
}
