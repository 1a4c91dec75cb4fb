import type { ServiceConfig } from "../../domain/config/resolved.js";
import { ConfigInvalid } from "../../domain/errors.js";
import type { Sha256 } from "../../domain/names.js";
import type { CodeSource } from "../../ports.js";

export interface ImageCodeOptions {
  /** Pinned image of the services for a device; null when none is known. */
  imageFor(device: "cpu" | "cuda"): Promise<string | null>;
  /** Whether any node that runs a service is to give it a GPU. */
  wantsGpu(service: ServiceConfig): Promise<boolean>;
  /** Images of what stands beside the services; each has to be pinned as well. */
  companions: readonly string[];
  gpuctlVersion: string;
}

/** What containers run: an image named by its digest, so that the same release is always the same bytes. */
export class ImageCodeSource implements CodeSource {
  readonly #options: ImageCodeOptions;

  constructor(options: ImageCodeOptions) {
    this.#options = options;
  }

  /** Throws ConfigInvalid when there is no image, or one that is named by a tag. */
  async current(service: ServiceConfig): ReturnType<CodeSource["current"]> {
    const device = (await this.#options.wantsGpu(service)) ? "cuda" : "cpu";
    const image = await this.#options.imageFor(device);
    if (image === null) throw missing(device);
    const digest = digestOf(image);
    this.#options.companions.map(digestOf);
    return { wheel: digest, file: image, version: this.#options.gpuctlVersion, lock: digest };
  }
}

/** The digest of `name@sha256:…` or `sha256:…`. Throws ConfigInvalid for a tag. */
export function digestOf(image: string): Sha256 {
  const [, digest] = /(?:^|@)sha256:([0-9a-f]{64})$/.exec(image) ?? [];
  if (digest !== undefined) return digest;
  throw new ConfigInvalid(`the image ${image} is not pinned`, {
    because: "a tag may be another image tomorrow, and a rollback must bring back the same bytes",
    nextSteps: ["gpuctl images push", "or write it as name@sha256:…, as `docker buildx imagetools inspect` prints it"],
  });
}

const missing = (device: string): ConfigInvalid =>
  new ConfigInvalid(`no image of the services for ${device} is known`, {
    because: "gpuctl.lock.json names none, and images.services in gpuctl.yaml is not set",
    nextSteps: [`gpuctl images push --device ${device}`, "or images: { services: name@sha256:… }   # in gpuctl.yaml"],
  });
