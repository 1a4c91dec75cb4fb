/** How much a builder keeps. */
export interface CacheUse {
  entries: number;
  /** As Docker rounds it, to four digits. */
  bytes: number;
  /** Of it what no image holds. */
  reclaimableBytes: number;
}

/** How a build used the cache. */
export interface BuildSteps {
  total: number;
  /** Taken from the cache. */
  cached: number;
}

/** The last build that gpuctl made on this machine. */
export interface LastBuild extends BuildSteps {
  /** ISO 8601. */
  at: string;
  image: string;
  builder: string;
  seconds: number;
}

const unitBytes: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** Bytes of a size as Docker shows it (`298.7MB`, `2.794GiB`), or null. */
export function parseShownSize(text: string): number | null {
  const [, number = "", unit = ""] = /^(\d+(?:\.\d+)?)([A-Za-z]+)$/.exec(text.trim()) ?? [];
  const factor = unitBytes[unit];
  return factor === undefined ? null : Math.round(Number(number) * factor);
}

/** What `docker buildx du` prints; null when it is something else. */
export function parseCacheUse(output: string): CacheUse | null {
  const total = sum(output, "Total");
  const reclaimable = sum(output, "Reclaimable");
  if (total === null || reclaimable === null) return null;
  const entries = output.split("\n").filter((line) => /^[a-z0-9]{20,}\*?\s+(?:true|false)\s/.test(line)).length;
  return { entries, bytes: total, reclaimableBytes: reclaimable };
}

/** Bytes that `docker buildx prune` says it freed; null when it does not say. */
export const freedBytes = (output: string): number | null => sum(output, "Total");

function sum(output: string, name: string): number | null {
  const shown = new RegExp(`^${name}:\\s+(\\S+)\\s*$`, "m").exec(output)?.[1];
  return shown === undefined ? null : parseShownSize(shown);
}
