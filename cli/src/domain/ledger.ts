import { canonicalJson, sha256 } from "./canonical.js";
import type { ServiceName, Sha256 } from "./names.js";
import type { ReleaseRecord, ServiceSpec } from "./release.js";
import { mib, type MiB } from "./units.js";

/** What decides how much memory a service needs on a device: peaks of equal keys may be compared. */
export interface PeakKey {
  service: ServiceName;
  /** `id@revision` of the model, and of the smaller one behind it; empty for the index. */
  models: readonly string[];
  /** `auto` where the service chooses. */
  dtype: string;
  /** Kind of device, such as `cuda`; with its card where that is known, as budgets follow it. */
  device: string;
  /** Hash of every other setting that memory may depend on. */
  options: Sha256;
}

/** The highest memory a release was seen to need under a key, MiB. */
export interface MeasuredPeak {
  key: PeakKey;
  /** Number of the release that was measured. */
  release: number;
  peak: MiB;
}

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

/** Everything that the kept releases were measured to need. */
export function ledgerOf(records: readonly ReleaseRecord[]): readonly MeasuredPeak[] {
  return records.flatMap(({ number, services }) =>
    Object.values(services).flatMap(({ spec, peakMiB, proof }) =>
      peakMiB === null || proof === null ? [] : [{ key: peakKey(spec, proof.device), release: number, peak: mib(peakMiB) }],
    ),
  );
}

/** What a candidate will need, and how that is known. */
export interface ExpectedPeak {
  peak: MiB;
  /** `measured`: with these very settings. `similar`: same model, precision and device, other settings. */
  from: "measured" | "similar";
}

/**
 * The memory to plan with: never less than any of the last releases of this key needed, so one lucky measurement does not lower it.
 * Without one, the most that the same model took with other settings; null when nobody has measured it.
 * @param last  how many of the newest measured releases count
 */
export function expectedPeak(ledger: readonly MeasuredPeak[], key: PeakKey, last = defaultMemory): ExpectedPeak | null {
  const equal = (one: object, other: object): boolean => canonicalJson(one) === canonicalJson(other);
  const measured = mostOf(
    ledger.filter((each) => equal(each.key, key)),
    last,
  );
  if (measured !== null) return { peak: measured, from: "measured" };
  const most = mostOf(
    ledger.filter((each) => equal(alike(each.key), alike(key))),
    last,
  );
  return most === null ? null : { peak: most, from: "similar" };
}

const alike = ({ options: _, ...rest }: PeakKey): Omit<PeakKey, "options"> => rest;

function mostOf(measured: readonly MeasuredPeak[], last: number): MiB | null {
  const newest = [...new Set(measured.map(({ release }) => release))].sort((a, b) => b - a).slice(0, Math.max(last, 1));
  const counted = measured.filter(({ release }) => newest.includes(release)).map(({ peak }) => peak);
  return counted.length === 0 ? null : mib(Math.max(...counted));
}
