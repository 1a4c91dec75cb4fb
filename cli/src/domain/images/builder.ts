import { parseShownSize } from "./cache.js";

/** The builder that `gpuctl images cache setup` makes. */
export const builderName = "gpuctl";

/** What builds: a part of Docker's engine, or BuildKit in a container, in a cluster, or far away. */
export interface Builder {
  name: string;
  /** `docker`, `docker-container`, `kubernetes` or `remote`. */
  driver: string;
  /** Whether it can write SBOM and provenance beside an image. */
  attests: boolean;
  /** What buildx says of it: `running`, `stopped`, `inactive`. */
  status: string;
  /** Size above which it throws away cache by itself, bytes; null when it does not say. */
  limitBytes: number | null;
  /** Image of its BuildKit, when another than buildx's own was asked for. */
  image: string | null;
}

/**
 * What `docker buildx inspect` prints; null when there is no such builder. Throws the line of an engine that does not answer, which
 * buildx prints with status 0.
 */
export function parseBuilder(output: string, containerdStore: boolean): Builder | { error: string } | null {
  const field = (name: string): string | null => new RegExp(`^${name}:[ \\t]+(\\S.*)$`, "m").exec(output)?.[1]?.trim() ?? null;
  const name = field("Name");
  const error = field("Error");
  if (error !== null) return { error };
  if (name === null) return null;
  const driver = field("Driver") ?? "docker";
  return {
    name,
    driver,
    attests: driver !== "docker" || containerdStore,
    status: field("Status") ?? "unknown",
    limitBytes: limitIn(output),
    image: /^Driver Options:.*\bimage="([^"]+)"/m.exec(output)?.[1] ?? null,
  };
}

/** The exact figure of our own settings, else the rounded one of the last rule. */
function limitIn(output: string): number | null {
  const own = /^ > +maxUsedSpace = "(\d+)"$/m.exec(output)?.[1];
  if (own !== undefined) return Number(own);
  const last = output.split(/^GC Policy rule#\d+:$/m).at(-1) ?? "";
  const shown = /^ +All: +true$/m.test(last) ? /^ +(?:Max Used Space|Keep Bytes): +(\S+)$/m.exec(last)?.[1] : undefined;
  return shown === undefined ? null : parseShownSize(shown);
}

/** Whether `docker info` says that the engine keeps images in containerd, which can hold what is attested about them. */
export const isContainerdStore = (driverStatus: string): boolean => driverStatus.includes("io.containerd.snapshotter");

/**
 * buildkitd.toml of our builder.
 * @param limitBytes  the cache is kept below it
 * @param insecure    a registry that is reached without TLS, or null
 */
export function builderConfig(limitBytes: number, insecure: string | null): string {
  const registry = insecure === null ? [] : [`[registry."${insecure}"]`, "  http = true", "  insecure = true", ""];
  return ["[worker.oci]", "  gc = true", `  maxUsedSpace = "${limitBytes}"`, "", ...registry].join("\n");
}

/** Whether a builder talks to a registry without TLS, by its settings as buildx shows them. */
export const knowsInsecure = (output: string, server: string): boolean =>
  output.includes(`[registry."${server}"]`) && /^ > +http = true$/m.test(output);
