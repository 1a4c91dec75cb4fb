import { buildInputs, type BuildInputs, type ImageDevice } from "../domain/images/build-arguments.js";
import { BuildLog, type BuildEvent } from "../domain/images/build-log.js";
import type { Builder } from "../domain/images/builder.js";
import type { BuildSteps } from "../domain/images/cache.js";
import { contentsOf, imageName, tagOf } from "../domain/images/contents.js";
import {
  attestationsOf,
  attestationText,
  buildCommand,
  imageId,
  type Attestations,
  type BuildOutput,
  type BuildPlan,
} from "../domain/images/docker-commands.js";
import type { DockerAttempt } from "../domain/images/docker-errors.js";
import { devicesOf, lockName, namedImage, serverOf } from "../domain/images/registry.js";
import type { EnvironmentConfig } from "../domain/config/resolved.js";
import type { Progress } from "../ports.js";
import type { ImageLock, ImageTools } from "../ports/images.js";
import { askDocker, currentBuilder, dockerFailure, longDeadline } from "./images-docker.js";
import { sourceRevision } from "./images-revision.js";

export interface ImageRequest {
  /** None: those that the environment's services can need. */
  devices: readonly ImageDevice[];
  /** As the flags give them: `NAME=VALUE`, `id=ID,src=FILE`. */
  buildArgs: readonly string[];
  secrets: readonly string[];
  sbom: boolean;
  env: Readonly<Record<string, string | undefined>>;
}

export interface BuiltImage {
  device: ImageDevice;
  /** Name in the engine of this machine. */
  image: string;
  /** Of the engine: `sha256:<64 hex>`. */
  id: string;
  bytes: number;
  contents: string;
  /** `present`: an image of the same contents was there, and nothing was done. */
  outcome: "built" | "present";
  /** Null when nothing was built. */
  steps: BuildSteps | null;
  seconds: number;
  /** Null when nothing was built. */
  attestations: Attestations | null;
}

export interface BuildResult {
  builder: string;
  images: readonly BuiltImage[];
  /** Where they were pinned: only for an environment that has hosts and no registry. */
  lock?: string;
}

/**
 * The same for an environment whose hosts get images from this machine: without a registry there is nothing to push to, so what was
 * built is pinned at once.
 */
export async function imagesBuildAndPin(
  tools: ImageTools & { lock: ImageLock },
  config: EnvironmentConfig,
  request: ImageRequest,
): Promise<BuildResult> {
  const result = await imagesBuild(tools, config, request);
  for (const { device, image: ref, id: digest, contents } of result.images)
    await tools.lock.writeImage(lockName(device), { ref, digest, contents });
  return { ...result, lock: tools.lock.file };
}

/** What a command builds with, asked once for all devices. */
export interface BuildSession {
  plans: readonly BuildPlan[];
  builder: Builder;
}

/** Builds the services' image for each device that is wanted, unless one of the same contents is there. */
export async function imagesBuild(tools: ImageTools, config: EnvironmentConfig, request: ImageRequest): Promise<BuildResult> {
  const { plans, builder } = await planBuilds(tools, config, request, "gpuctl images build");
  const images: BuiltImage[] = [];
  for (const plan of plans) images.push(await buildOne(tools, plan, "gpuctl images build"));
  return { builder: builder.name, images };
}

/** What would be built, and with what. Says so when the environment deploys another image. */
export async function planBuilds(
  tools: ImageTools,
  config: EnvironmentConfig,
  request: ImageRequest,
  again: string,
): Promise<BuildSession> {
  const inputs: BuildInputs = buildInputs(request.buildArgs, request.secrets, request.env);
  const named = namedImage(config);
  if (named !== null) {
    const text = `${config.environment} deploys ${named}, which gpuctl.yaml names under images, and not what is built here`;
    tools.progress.emit({ kind: "warning", text });
  }
  const devices = request.devices.length === 0 ? devicesOf(config) : [...new Set(request.devices)];
  const [files, source] = await Promise.all([tools.context.files(), sourceRevision(tools)]);
  const builder = await currentBuilder(tools, again);
  const plans = devices.map((device): BuildPlan => {
    const contents = contentsOf(files, device, inputs);
    const ref = `${imageName}:${tagOf(device, contents)}`;
    const { directory: context } = tools.context;
    return { device, ref, contents, inputs, version: tools.gpuctlVersion, ...source, context, builder, sbom: request.sbom };
  });
  return { plans, builder };
}

/** One image in the engine of this machine: found there, or built. */
export async function buildOne(tools: ImageTools, plan: BuildPlan, again: string): Promise<BuiltImage> {
  const { device, ref: image, contents } = plan;
  const present = await localImage(tools, image, again);
  if (present !== null) {
    tools.progress.emit({ kind: "step", text: `${image} is there already: nothing of what goes into it has changed` });
    return { device, image, ...present, contents, outcome: "present", steps: null, seconds: 0, attestations: null };
  }
  const { steps, seconds } = await runBuild(tools, plan, "load", again);
  const made = await localImage(tools, image, again);
  if (made === null) {
    const because = "it was built, and the engine of this machine does not have it";
    throw dockerFailure({ failure: `${image} is missing`, server: null, again }, nothingSaid, because);
  }
  return { device, image, ...made, contents, outcome: "built", steps, seconds, attestations: attestationsOf(plan, "load") };
}

const nothingSaid = { code: 0, signal: null, stdout: "", stderr: "" };

/** The image under that name in the engine of this machine; null when it has none. */
export async function localImage(tools: ImageTools, ref: string, again: string): Promise<{ id: string; bytes: number } | null> {
  const result = await askDocker(tools, imageId(ref), again);
  const [, id = "", bytes = ""] = /^(sha256:[0-9a-f]{64}) (\d+)$/m.exec(result.stdout) ?? [];
  if (result.code === 0 && id !== "") return { id, bytes: Number(bytes) };
  if (/no such image/i.test(result.stderr)) return null;
  throw dockerFailure({ failure: `${ref} could not be looked for`, server: null, again }, result);
}

/** Runs `docker buildx build` with its progress on ours, and remembers how it used the cache. */
export async function runBuild(
  tools: ImageTools,
  plan: BuildPlan,
  output: BuildOutput,
  again: string,
): Promise<{ steps: BuildSteps; seconds: number; pushedDigest: string | null }> {
  const { progress, clock, notes } = tools;
  const log = new BuildLog();
  const began = clock.monotonic();
  progress.emit({ kind: "step", text: beginning(plan, output) });
  const { argv, env } = buildCommand(plan, output);
  const onLine = (line: string): void => tell(progress, log.line(line));
  const result = await askDocker(tools, argv, again, { env, onLine, deadline: longDeadline });
  if (result.code !== 0) throw dockerFailure(attempt(plan, output, again), result, log.failure);
  const { steps, pushedDigest } = log;
  const seconds = Math.round((clock.monotonic() - began) / 100) / 10;
  await notes.remember({ at: clock.now().toISOString(), image: plan.ref, builder: plan.builder.name, seconds, ...steps });
  return { steps, seconds, pushedDigest };
}

const attempt = ({ ref }: BuildPlan, output: BuildOutput, again: string): DockerAttempt => ({
  failure: `${ref} could not be ${output === "load" ? "built" : "pushed"}`,
  server: output === "load" ? null : serverOf(ref),
  again,
});

function beginning(plan: BuildPlan, output: BuildOutput): string {
  const { ref, builder } = plan;
  const how = output === "load" ? "building" : "pushing";
  return `${how} ${ref} with the builder ${builder.name} (${builder.driver}). ${attestationText(attestationsOf(plan, output))}`;
}

function tell(progress: Progress, event: BuildEvent | null): void {
  if (event === null) return;
  const text = event.kind === "step" ? `  ${event.text}${event.cached ? "  (cached)" : ""}` : `  ${event.text}`;
  progress.emit({ kind: "step", text });
}
