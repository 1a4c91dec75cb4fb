import type { Sha256 } from "../names.js";
import { parseJson, textAt } from "../preflight/json-value.js";
import type { BuildInputs, ImageDevice } from "./build-arguments.js";
import { builderName, type Builder } from "./builder.js";

export type Argv = readonly [string, ...string[]];

/** One build of the services' image. */
export interface BuildPlan {
  device: ImageDevice;
  /** Name with its tag. */
  ref: string;
  contents: Sha256;
  inputs: BuildInputs;
  /** Said in the OCI labels of the image. */
  version: string;
  revision: string;
  /** Time of that commit (ISO 8601); null when it is not known. */
  created: string | null;
  /** Directory with the Dockerfile. */
  context: string;
  builder: Builder;
  sbom: boolean;
}

/** `load`: into the engine of this machine. `push`: from the builder straight to the registry, with what is attested about it. */
export type BuildOutput = "load" | "push";

/** What a build attests, and where it does not, why. */
export interface Attestations {
  sbom: boolean;
  provenance: boolean;
  because: string | null;
}

/** What `docker buildx build` is told to attest: only what is written together with the image can be attested. */
export function attestationsOf({ builder, sbom }: Pick<BuildPlan, "builder" | "sbom">, output: BuildOutput): Attestations {
  if (!builder.attests) {
    const because = `the builder ${builder.name} (driver ${builder.driver}) cannot write them; one that can: gpuctl images cache setup`;
    return { sbom: false, provenance: false, because };
  }
  if (output === "load" && builder.driver !== "docker")
    return {
      sbom: false,
      provenance: false,
      because: "the engine here cannot store them; they are written when the image is pushed",
    };
  return { sbom, provenance: true, because: sbom ? null : "no SBOM was wanted (--no-sbom)" };
}

/** `No SBOM and no provenance: …`, for people. */
export function attestationText({ sbom, provenance, because }: Attestations): string {
  const what = [sbom ? "SBOM" : null, provenance ? "provenance" : null].filter((part) => part !== null).join(" and ");
  if (what === "") return `No SBOM and no provenance: ${because ?? "none was wanted"}`;
  return `Beside the image: ${what}${because === null ? "" : ` (${because})`}`;
}

/**
 * Arguments of `docker buildx build`. Values that came from the environment stay there. Provenance is the short form: the long one
 * would tell mirrors and proxies to everybody who pulls the image.
 */
export function buildCommand(plan: BuildPlan, output: BuildOutput): { argv: Argv; env: Readonly<Record<string, string>> } {
  const { device, ref, contents, inputs, version, revision, created, context, builder } = plan;
  const { sbom, provenance } = attestationsOf(plan, output);
  const own = { DEVICE: device, VERSION: version, REVISION: revision, ...(created === null ? {} : { CREATED: created }) };
  const given = Object.entries(inputs.args).map(([name, { value, inherited }]) => (inherited ? name : `${name}=${value}`));
  const args = [...Object.entries(own).map(([name, value]) => `${name}=${value}`), ...given];
  const argv: Argv = [
    ...(["docker", "buildx", "build", "--builder", builder.name, "--progress", "plain"] as const),
    ...["--tag", ref, `--${output}`],
    `--provenance=${provenance ? "mode=min" : "false"}`,
    `--sbom=${sbom ? "true" : "false"}`,
    ...["--label", `gpuctl.contents=${contents}`],
    ...args.flatMap((arg) => ["--build-arg", arg]),
    ...Object.entries(inputs.secrets).flatMap(([id, path]) => ["--secret", `id=${id},src=${path}`]),
    context,
  ];
  const inherited = Object.entries(inputs.args).filter(([, arg]) => arg.inherited);
  return { argv, env: Object.fromEntries(inherited.map(([name, { value }]) => [name, value])) };
}

/** The id of an image of this machine's engine. */
export const imageId = (ref: string): Argv => ["docker", "image", "inspect", "--format", "{{.Id}} {{.Size}}", ref];

export const tagImage = (from: string, to: string): Argv => ["docker", "tag", from, to];

export const pushImage = (ref: string): Argv => ["docker", "push", ref];

/** Which registries the engine talks to without TLS; also the shortest question that only a running engine answers. */
export const registryConfig: Argv = ["docker", "info", "--format", "{{json .RegistryConfig}}"];

/** How the engine stores images. */
export const storageFacts: Argv = ["docker", "info", "--format", "{{json .DriverStatus}}"];

/**
 * Asks a registry for an image without pulling it. Buildx gives the digest of an index too, but only talks without TLS to registries
 * that its builder knows as such; the older command does what it is told.
 */
export function askRegistry(ref: string, { builder, insecure }: { builder: Builder; insecure: boolean }): Argv {
  if (insecure && builder.driver === "docker") return ["docker", "manifest", "inspect", "--insecure", "--verbose", ref];
  return ["docker", "buildx", "imagetools", "inspect", "--builder", builder.name, ref];
}

/** The digest in what `askRegistry` printed; null when it does not say one for all of the image. */
export function digestIn(output: string): string | null {
  const line = /^Digest:\s+(sha256:[0-9a-f]{64})$/m.exec(output)?.[1];
  if (line !== undefined) return line;
  return textAt(parseJson(output), "Descriptor", "digest");
}

/** `cpu-3f2a…: digest: sha256:… size: 1365`, the last line of `docker push`. */
export const pushedDigest = (output: string): string | null =>
  /: digest: (sha256:[0-9a-f]{64}) size: \d+\s*$/m.exec(output)?.[1] ?? null;

export const inspectBuilder = (name: string | null): Argv => ["docker", "buildx", "inspect", ...(name === null ? [] : [name])];

export const startBuilder: Argv = ["docker", "buildx", "inspect", "--bootstrap", builderName];

/** A builder in a container of its own, with the settings of a file. `image` is the BuildKit to run, for those behind a mirror. */
export function createBuilder(config: string, image: string | null): Argv {
  const option = image === null ? [] : ["--driver-opt", `image=${image}`];
  return [
    ...(["docker", "buildx", "create", "--name", builderName, "--driver", "docker-container"] as const),
    ...option,
    ...["--buildkitd-config", config, "--bootstrap"],
  ];
}

/** Removes the builder; with `keepCache` its volume stays, and the next one of that name finds it. */
export const removeBuilder = (keepCache: boolean): Argv => [
  ...(["docker", "buildx", "rm", ...(keepCache ? ["--keep-state"] : []), builderName] as const),
];

export const cacheUse = (builder: string): Argv => ["docker", "buildx", "du", "--builder", builder];

/** Frees all of a cache, or what is above so many bytes. */
export function clearCache(builder: string, keepBytes: number | null): Argv {
  const what = keepBytes === null ? ["--all"] : ["--max-used-space", keepBytes.toString()];
  return ["docker", "buildx", "prune", "--builder", builder, "--force", ...what];
}
