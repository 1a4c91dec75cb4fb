import type { EnvironmentConfig } from "../domain/config/resolved.js";
import type { ImageDevice } from "../domain/images/build-arguments.js";
import type { Builder } from "../domain/images/builder.js";
import { tagOf } from "../domain/images/contents.js";
import {
  askRegistry,
  attestationsOf,
  digestIn,
  pushedDigest,
  pushImage,
  registryConfig,
  tagImage,
  type Attestations,
  type BuildPlan,
} from "../domain/images/docker-commands.js";
import { localDockerError, type DockerAttempt } from "../domain/images/docker-errors.js";
import { isInsecure, lockName, pinnedReference, repositoryIn, serverOf, type LockedImage } from "../domain/images/registry.js";
import type { Progress } from "../ports.js";
import type { ImageLock, ImageTools } from "../ports/images.js";
import { buildOne, planBuilds, runBuild, type ImageRequest } from "./images-build.js";
import { askDocker, dockerFailure, longDeadline, mustDocker } from "./images-docker.js";

const again = "gpuctl images push";

export interface PushedImage {
  device: ImageDevice;
  /** Name with its tag in the registry. */
  ref: string;
  digest: string;
  /** `name@sha256:…`: what a release names. */
  pinned: string;
  contents: string;
  /** `present`: the registry had an image of the same contents, and nothing was sent. */
  outcome: "pushed" | "present";
  /** Null when nothing was sent: then what was attested is what the registry has. */
  attestations: Attestations | null;
}

export interface PushResult {
  lock: string;
  images: readonly PushedImage[];
}

/** Puts the services' images into the registry of the environment, building what is missing, and pins their digests in the lock. */
export async function imagesPush(
  tools: ImageTools & { lock: ImageLock },
  config: EnvironmentConfig,
  request: ImageRequest,
): Promise<PushResult> {
  const repository = repositoryIn(config);
  // Before minutes of building: a lock that cannot be read could not be written either.
  const locked = await tools.lock.readImages();
  const { plans, builder } = await planBuilds(tools, config, request, again);
  const registry = await registryOf(tools, repository, builder);
  const images: PushedImage[] = [];
  for (const plan of plans) {
    const pushed = await pushOne(tools, plan, registry, locked[lockName(plan.device)]);
    const { ref, digest, contents } = pushed;
    await tools.lock.writeImage(lockName(plan.device), { ref, digest, contents });
    images.push(pushed);
  }
  return { lock: tools.lock.file, images };
}

interface Registry {
  repository: string;
  builder: Builder;
  insecure: boolean;
}

async function registryOf(tools: ImageTools, repository: string, builder: Builder): Promise<Registry> {
  const attempt = { failure: "Docker could not be asked about the registry", server: serverOf(repository), again };
  const config = await mustDocker(tools, registryConfig, attempt);
  return { repository, builder, insecure: isInsecure(serverOf(repository), config) };
}

async function pushOne(
  tools: ImageTools,
  plan: BuildPlan,
  registry: Registry,
  locked: LockedImage | undefined,
): Promise<PushedImage> {
  const { device, contents } = plan;
  const ref = `${registry.repository}:${tagOf(device, contents)}`;
  const pushed = (digest: string, outcome: PushedImage["outcome"], attestations: Attestations | null): PushedImage => {
    const pinned = pinnedReference({ ref, digest, contents });
    return { device, ref, digest, pinned, contents, outcome, attestations };
  };
  const present = await presentDigest(tools, ref, contents, registry, locked);
  if (present !== null) {
    tools.progress.emit({ kind: "step", text: `${ref} is in the registry already: nothing of what goes into it has changed` });
    return pushed(present, "present", null);
  }
  const attestations = attestationsOf(plan, "push");
  return pushed(await send(tools, plan, ref), "pushed", attestations);
}

/**
 * The digest of an image of the same contents that the registry has: the one that is pinned, else the one that somebody else pushed. A
 * tag that is there is not written again: releases elsewhere may name its digest.
 */
async function presentDigest(
  tools: ImageTools,
  ref: string,
  contents: string,
  registry: Registry,
  locked: LockedImage | undefined,
): Promise<string | null> {
  if (locked?.ref === ref && locked.contents === contents) {
    const found = await inRegistry(tools, pinnedReference(locked), registry);
    if (found !== null) return locked.digest;
  }
  const found = await inRegistry(tools, ref, registry);
  return found === null ? null : digestIn(found);
}

/** What the registry says about an image; null when it has none of that name. */
async function inRegistry(tools: ImageTools, ref: string, { builder, insecure }: Registry): Promise<string | null> {
  const result = await askDocker(tools, askRegistry(ref, { builder, insecure }), again);
  if (result.code === 0) return result.stdout;
  if (/no such manifest|: not found\s*$|manifest unknown|name unknown|repository does not exist/i.test(result.stderr))
    return null;
  throw dockerFailure(attempt(ref), result);
}

const attempt = (ref: string): DockerAttempt => ({ failure: `${ref} could not be pushed`, server: serverOf(ref), again });

/** Sends one image; the digest that the registry gave it. */
async function send(tools: ImageTools, plan: BuildPlan, ref: string): Promise<string> {
  const digest =
    plan.builder.driver === "docker"
      ? await sendFromEngine(tools, (await buildOne(tools, plan, again)).image, ref)
      : // Straight from the builder: the engine here could not keep what is attested, and need not have the image.
        (await runBuild(tools, { ...plan, ref }, "push", again)).pushedDigest;
  if (digest !== null) return digest;
  throw localDockerError(attempt(ref), "docker says that it was pushed, and no digest");
}

async function sendFromEngine(tools: ImageTools, image: string, ref: string): Promise<string | null> {
  await mustDocker(tools, tagImage(image, ref), attempt(ref));
  const options = { onLine: layerProgress(tools.progress, ref), deadline: longDeadline };
  return pushedDigest(await mustDocker(tools, pushImage(ref), attempt(ref), options));
}

/** Without a terminal Docker tells layers and no bytes. */
function layerProgress(progress: Progress, ref: string): (line: string) => void {
  const layers = new Set<string>();
  const ready = new Set<string>();
  return (line) => {
    const [, layer = "", state = ""] = /^([0-9a-f]{12}): (.+)$/.exec(line) ?? [];
    if (layer === "") return;
    layers.add(layer);
    if (/^(?:Pushed|Layer already exists|Mounted from)/.test(state)) ready.add(layer);
    progress.emit({ kind: "amount", label: `pushing ${ref}`, done: ready.size, total: layers.size, unit: "layers" });
  };
}
