import { canonicalJson, sha256 } from "../canonical.js";
import type { Sha256 } from "../names.js";
import { countedArguments, type BuildInputs, type ImageDevice } from "./build-arguments.js";

/** Name of the services' image, here and (unless gpuctl.yaml says another) in the registry; the Compose files use it too. */
export const imageName = "gpuctl-services";

/** Files of the build context by their path in it, with the hash of each. */
export type ContextFiles = Readonly<Record<string, Sha256>>;

/** The Python lock that a device's image is installed from. */
const lockOf = { cpu: "locks/runtime.txt", cuda: "locks/cuda.txt" } as const;

/**
 * Everything that ends up in an image, as one hash: its recipe, its lock, the services' code, the device and the base image. Mirrors
 * and proxies do not count, nor do version and commit: those name the gpuctl that happened to build it first.
 */
export function contentsOf(files: ContextFiles, device: ImageDevice, inputs: BuildInputs): Sha256 {
  const other = Object.values(lockOf).filter((lock) => lock !== lockOf[device]);
  const counted = Object.entries(files).filter(([path]) => !other.some((lock) => lock === path));
  return sha256(canonicalJson({ device, args: countedArguments(inputs), files: Object.fromEntries(counted) }));
}

/** `cpu-3f2a91c05d7e4b68`: equal contents have equal tags, on every machine. */
export function tagOf(device: ImageDevice, contents: Sha256): string {
  return `${device}-${contents.slice(0, 16)}`;
}
