import type { EnvironmentConfig } from "../config/resolved.js";
import { ConfigInvalid } from "../errors.js";
import type { Sha256 } from "../names.js";
import { at, parseJson, textsAt } from "../preflight/json-value.js";
import { within } from "../preflight/network.js";
import { imageDevices, type ImageDevice } from "./build-arguments.js";
import { imageName } from "./contents.js";

/** What gpuctl.lock.json pins the services' image of a device to. */
export interface LockedImage {
  /** `registry.example.net/gpuctl-services:cpu-3f2a91c05d7e4b68`: where it was pushed to. Without a registry its name here. */
  ref: string;
  /** `sha256:<64 hex>`, as the registry names it, or the Docker of the machine that built it. */
  digest: string;
  /** Hash of everything that went into it. */
  contents: Sha256;
}

/** `services-cpu`: the name of an image in the lock. */
export const lockName = (device: ImageDevice): string => `services-${device}`;

/**
 * `registry.example.net/gpuctl-services@sha256:…`: what a release names, so that it always means the same bytes. `sha256:…` alone is an
 * image that is sent from the machine that built it.
 */
export const pinnedReference = ({ ref, digest }: LockedImage): string =>
  ref.includes("/") ? `${repositoryOf(ref)}@${digest}` : digest;

/** An image's name without its tag; a colon before the last slash belongs to the registry's port. */
const repositoryOf = (ref: string): string => ref.replace(/:[^:/]*$/, "");

/** The registry's own name at the beginning of a reference, as `docker login` takes it. */
export const serverOf = (ref: string): string => ref.split("/")[0] ?? ref;

const registryIn = ({ targetSettings }: EnvironmentConfig) =>
  targetSettings && "registry" in targetSettings ? targetSettings.registry : undefined;

/** The registry of an environment, or null when it names none. */
export const registryServer = (config: EnvironmentConfig): string | null => registryIn(config)?.server ?? null;

/** Where an environment's images are kept: `registry.example.net/gpuctl-services`. Throws ConfigInvalid when it names no registry. */
export function repositoryIn(config: EnvironmentConfig): string {
  const { environment, target } = config;
  const registry = registryIn(config);
  if (registry !== undefined) return `${registry.server}/${registry.repository ?? imageName}`;
  const hosts = target === "compose" || target === "swarm";
  throw new ConfigInvalid(`the environment ${environment} names no registry`, {
    because: hosts
      ? "gpuctl.yaml has no `registry` in it"
      : `only environments of compose and swarm have one, and this is ${target}`,
    nextSteps: hosts
      ? [`add to ${environment} in gpuctl.yaml: registry: { server: registry.example.net }`, "gpuctl images push"]
      : ["gpuctl images push --environment NAME, one of compose or swarm"],
    data: { environment, target },
  });
}

/** Whether an environment's hosts get the built image from this machine: it has hosts, no registry, and names no other image. */
export const sendsImages = (config: EnvironmentConfig): boolean =>
  config.target === "compose" && registryIn(config) === undefined && namedImage(config) === null;

/** The image that an environment names in place of the built one, or null. */
export function namedImage({ targetSettings }: EnvironmentConfig): string | null {
  return (targetSettings && "images" in targetSettings ? targetSettings.images?.services : undefined) ?? null;
}

/**
 * Images that the services of an environment can need: `auto` takes a GPU where a node has one, and the CPU elsewhere; an index only
 * takes a GPU that it is told to take.
 */
export function devicesOf({ services }: EnvironmentConfig): readonly ImageDevice[] {
  const wanted = Object.values(services).flatMap(({ service, device, gpu }): ImageDevice[] => {
    if (device.prefer === "cpu" || device.require === "cpu") return ["cpu"];
    if (device.prefer === "auto" && service === "index") return ["cpu"];
    return device.prefer === "cuda" || device.require === "cuda" || (gpu ?? null) !== null ? ["cuda"] : ["cpu", "cuda"];
  });
  return imageDevices.filter((device) => wanted.length === 0 || wanted.includes(device));
}

/** What `docker info --format '{{json .RegistryConfig}}'` says about one registry: whether the engine talks to it without TLS. */
export function isInsecure(server: string, registryConfig: string): boolean {
  const config = parseJson(registryConfig);
  if (at(config, "IndexConfigs", server, "Secure") === false) return true;
  const host = server.replace(/:\d+$/, "");
  return within(host === "localhost" ? "127.0.0.1" : host, textsAt(config, "InsecureRegistryCIDRs"));
}
