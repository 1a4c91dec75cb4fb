import { canonicalJson, sha256 } from "../canonical.js";
import type { ServiceName, Sha256 } from "../names.js";
import type { ServiceSpec } from "../release.js";
import { mib, type MiB } from "../units.js";

/** What decides how much memory a service needs on a device: peaks of equal keys may be compared. */
export interface PeakKey {
  service: ServiceName;
  /** `id@revision` of the model, and of the smaller one behind it; empty for the index. */
  models: readonly string[];
  /** `auto` where the service chooses. */
  dtype: string;
  /** Kind and card, such as `cuda Tesla T4`: budgets follow the card. */
  device: string;
  /** Hash of every other setting that memory may depend on. */
  options: Sha256;
}

/** The highest memory a release was seen to need, MiB. */
export interface MeasuredPeak {
  /** Number of the release that was measured. */
  release: number;
  peak: MiB;
}

/** Measured peaks by the hash of their key. It lies on the node, beside the records, and only ever learns. */
export type Ledger = Readonly<Record<Sha256, { key: PeakKey; peaks: readonly MeasuredPeak[] }>>;

export const emptyLedger: Ledger = {};

/** Releases whose peaks count: an old one may have measured another gpuctl's services. */
export const defaultMemory = 10;

/** Settings that memory does not depend on: everything else makes another key, which is the safe mistake. */
const without = new Set([
  "GPUCTL_DEVICE",
  "GPUCTL_REQUIRE",
  "GPUCTL_DTYPE",
  "GPUCTL_LOG_LEVEL",
  "GPUCTL_SLOW_MS",
  "GPUCTL_SLO_MS",
  "GPUCTL_RATE_LIMIT",
  "GPUCTL_CORS_ORIGINS",
  "GPUCTL_REDIS_URL",
  "GPUCTL_REDIS_TIMEOUT_MS",
  "GPUCTL_EMBEDDER_URL",
  "GPUCTL_HANG_MS",
  "GPUCTL_DEADLINE_MS",
]);

/** The key of a spec on a device, such as `cuda Tesla T4`. */
export function peakKey(spec: ServiceSpec, device: string): PeakKey {
  const models = [spec.model, spec.fallback?.model ?? null];
  const options = Object.entries(spec.env).filter(([name]) => name.startsWith("GPUCTL_") && !without.has(name));
  return {
    service: spec.service,
    models: models.flatMap((model) => (model === null ? [] : [`${model.id}@${model.revision}`])),
    dtype: spec.env["GPUCTL_DTYPE"] ?? "auto",
    device,
    options: sha256(canonicalJson(Object.fromEntries(options))),
  };
}

const hashOf = (key: PeakKey): Sha256 => sha256(canonicalJson(key));

/** Adds what a release was measured to need. Measured again, the higher figure counts. */
export function recordPeak(ledger: Ledger, key: PeakKey, measured: MeasuredPeak): Ledger {
  return mergeLedgers(ledger, { [hashOf(key)]: { key, peaks: [measured] } });
}

/** Everything that either ledger knows; of one release the higher figure. In any order and any number of times the same. */
export function mergeLedgers(one: Ledger, other: Ledger): Ledger {
  const merged: Record<Sha256, Ledger[string]> = {};
  for (const hash of [...new Set([...Object.keys(one), ...Object.keys(other)])].sort()) {
    const [mine, theirs] = [one[hash], other[hash]];
    const key = (mine ?? theirs)?.key;
    if (key !== undefined) merged[hash] = { key, peaks: highest([...(mine?.peaks ?? []), ...(theirs?.peaks ?? [])]) };
  }
  return merged;
}

function highest(peaks: readonly MeasuredPeak[]): readonly MeasuredPeak[] {
  const byRelease = new Map<number, number>();
  for (const { release, peak } of peaks) byRelease.set(release, Math.max(peak, byRelease.get(release) ?? 0));
  return [...byRelease].sort(([a], [b]) => a - b).map(([release, peak]) => ({ release, peak: mib(peak) }));
}

/** What a candidate will need, and how that is known. */
export interface ExpectedPeak {
  peak: MiB;
  /** `measured`: with these very settings. `similar`: same model, precision and card, other settings. */
  from: "measured" | "similar";
}

/**
 * The memory to plan with: never less than any of the last releases of this key needed, so one lucky measurement does not lower it.
 * Without one, the most that the same model took with other settings; null when nobody has measured it.
 * @param last  how many of the newest measured releases count
 */
export function expectedPeak(ledger: Ledger, key: PeakKey, last = defaultMemory): ExpectedPeak | null {
  const exact = ledger[hashOf(key)]?.peaks ?? [];
  const measured = mostOf(exact, last);
  if (measured !== null) return { peak: measured, from: "measured" };
  const like = canonicalJson(alike(key));
  const similar = Object.values(ledger).flatMap((entry) => (canonicalJson(alike(entry.key)) === like ? entry.peaks : []));
  const most = mostOf(highest(similar), last);
  return most === null ? null : { peak: most, from: "similar" };
}

const alike = ({ options: _, ...rest }: PeakKey): Omit<PeakKey, "options"> => rest;

function mostOf(peaks: readonly MeasuredPeak[], last: number): MiB | null {
  const counted = peaks.slice(-Math.max(last, 1)).map(({ peak }) => peak);
  return counted.length === 0 ? null : mib(Math.max(...counted));
}

/** Forgets what no longer counts, so that the file does not grow for ever: per key the newest releases. */
export function trimLedger(ledger: Ledger, last = defaultMemory): Ledger {
  return Object.fromEntries(
    Object.entries(ledger).map(([hash, entry]) => [hash, { ...entry, peaks: entry.peaks.slice(-Math.max(last, 1)) }]),
  );
}

/** Reads a ledger file; what is damaged is left out, because a peak that nobody knows only means that memory is measured anew. */
export function readLedger(value: unknown): Ledger {
  if (typeof value !== "object" || value === null) return emptyLedger;
  let ledger: Ledger = emptyLedger;
  for (const entry of Object.values(value) as unknown[]) {
    const { key, peaks } = (entry ?? {}) as Partial<Ledger[string]>;
    if (!isKey(key) || !Array.isArray(peaks)) continue;
    for (const measured of peaks as unknown[]) if (isPeak(measured)) ledger = recordPeak(ledger, key, measured);
  }
  return ledger;
}

function isKey(value: unknown): value is PeakKey {
  const { service, models, dtype, device, options } = (value ?? {}) as Record<string, unknown>;
  const texts = [service, dtype, device, options].every((part) => typeof part === "string");
  return texts && Array.isArray(models) && models.every((model) => typeof model === "string");
}

function isPeak(value: unknown): value is MeasuredPeak {
  const { release, peak } = (value ?? {}) as Record<string, unknown>;
  return Number.isSafeInteger(release) && typeof peak === "number" && Number.isFinite(peak) && peak >= 0;
}
