/** What `nvidia-smi` says about this machine's GPUs, read from its CSV output. Pure: the adapter runs it, tests give it captures. */

import { mib, type MiB } from "./units.js";

/** Fields asked for, in this order. */
export const queriedFields = [
  "index",
  "uuid",
  "name",
  "driver_version",
  "compute_cap",
  "memory.total",
  "memory.used",
  "memory.free",
  "mig.mode.current",
  "ecc.errors.uncorrected.volatile.total",
  "temperature.gpu",
  "persistence_mode",
] as const;

export const queryArguments: readonly string[] = [`--query-gpu=${queriedFields.join(",")}`, "--format=csv,noheader,nounits"];

/** One GPU. Null is what the driver answers with `[N/A]` or `[Not Supported]`. */
export interface Gpu {
  index: number;
  uuid: string;
  name: string;
  driver: string;
  computeCapability: number | null;
  totalMiB: number | null;
  usedMiB: number | null;
  freeMiB: number | null;
  mig: boolean | null;
  uncorrectedErrors: number | null;
  temperature: number | null;
  persistence: boolean | null;
  /** MIG instances of this GPU, by UUID; none when MIG is off. */
  instances: readonly { profile: string; uuid: string }[];
  /** What the driver says instead of values when the GPU has failed, or null. */
  fault: string | null;
}

export type NvidiaSmi =
  | { state: "absent" }
  | { state: "gpus"; gpus: readonly Gpu[] }
  | { state: "no-devices" }
  /** User-space and kernel parts of the driver differ: it was upgraded and the machine not restarted. */
  | { state: "mismatch"; detail: string }
  /** The kernel module is not there or does not answer. */
  | { state: "no-driver"; detail: string }
  /** The driver is older than a field that is asked for. */
  | { state: "too-old"; detail: string }
  | { state: "hangs"; seconds: number }
  | { state: "failed"; detail: string };

export interface SmiOutput {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Reads the answer to `queryArguments`, and that to `nvidia-smi -L` for MIG instances. */
export function readNvidiaSmi(query: SmiOutput, list: SmiOutput | null): NvidiaSmi {
  const said = `${query.stdout}\n${query.stderr}`.trim();
  // Matched by text: the exit status of these is 9 or 18 in the field, and documented for neither.
  if (/driver\/library version mismatch/i.test(said)) return { state: "mismatch", detail: sentence(said) };
  if (/no devices were found/i.test(said)) return { state: "no-devices" };
  if (/couldn't communicate with the NVIDIA driver|driver is not loaded|Driver Not Loaded/i.test(said)) {
    return { state: "no-driver", detail: sentence(said) };
  }
  if (/is not a valid field to query/i.test(said)) return { state: "too-old", detail: sentence(said) };
  if (query.code !== 0) return { state: "failed", detail: sentence(said) || `exit status ${query.code ?? "unknown"}` };
  const rows = query.stdout.split(/\r?\n/).filter((line) => line.trim() !== "");
  if (rows.length === 0) return { state: "no-devices" };
  const instances = migInstances(list?.stdout ?? "");
  const gpus: Gpu[] = [];
  for (const row of rows) {
    const gpu = readRow(row, instances);
    if (gpu === null) return { state: "failed", detail: `it printed a line that is no GPU: ${row.slice(0, 120)}` };
    gpus.push(gpu);
  }
  return { state: "gpus", gpus };
}

function readRow(row: string, instances: ReadonlyMap<string, Gpu["instances"]>): Gpu | null {
  const cells = row.split(",").map((cell) => cell.trim());
  const [index, uuid, name, driver, capability, total, used, free, mig, errors, temperature, persistence] = cells;
  if (cells.length !== queriedFields.length || !/^\d+$/.test(index ?? "") || uuid === undefined) return null;
  return {
    index: Number(index),
    uuid,
    name: name ?? "",
    driver: driver ?? "",
    computeCapability: figure(capability),
    totalMiB: figure(total),
    usedMiB: figure(used),
    freeMiB: figure(free),
    mig: enabled(mig),
    uncorrectedErrors: figure(errors),
    temperature: figure(temperature),
    persistence: enabled(persistence),
    instances: instances.get(uuid) ?? [],
    fault: cells.map(faultIn).find((fault) => fault !== null) ?? null,
  };
}

/** A number, or null for `[N/A]`, `N/A`, `[Not Supported]`, `[Unknown Error]` and everything else that is none. */
function figure(cell: string | undefined): number | null {
  return cell !== undefined && /^\d+(\.\d+)?$/.test(cell) ? Number(cell) : null;
}

function enabled(cell: string | undefined): boolean | null {
  return cell === "Enabled" ? true : cell === "Disabled" ? false : null;
}

/** Not available and not supported are answers; an error, a loss and a needed reset are faults. */
function faultIn(cell: string): string | null {
  const inside = /^\[(.*)\]$/.exec(cell)?.[1] ?? cell;
  return /error|is lost|requires reset|^ERR!$/i.test(inside) ? inside : null;
}

/** `GPU 0: NVIDIA H200 (UUID: GPU-…)` followed by `  MIG 1g.18gb Device 0: (UUID: MIG-…)`. */
function migInstances(list: string): Map<string, { profile: string; uuid: string }[]> {
  const found = new Map<string, { profile: string; uuid: string }[]>();
  let current: { profile: string; uuid: string }[] | undefined;
  for (const line of list.split(/\r?\n/)) {
    const gpu = /^GPU \d+: .*\(UUID: (GPU-[^)]+)\)/.exec(line)?.[1];
    if (gpu !== undefined) found.set(gpu, (current = []));
    const mig = /^\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)/.exec(line);
    if (mig?.[1] !== undefined && mig[2] !== undefined) current?.push({ profile: mig[1], uuid: mig[2] });
  }
  return found;
}

/** Memory of MIG instances by UUID, as `nvidia-smi -L` names it in their profiles: `1g.18gb` are 18 GB. */
export function instanceSizes(list: string): ReadonlyMap<string, MiB> {
  const all = [...migInstances(list).values()].flat();
  return new Map(
    all.flatMap(({ profile, uuid }): [string, MiB][] => {
      const gigabytes = /\.(\d+)gb/.exec(profile)?.[1];
      return gigabytes === undefined ? [] : [[uuid, mib(Math.floor((Number(gigabytes) * 1e9) / 2 ** 20))]];
    }),
  );
}

/** The first sentence of an error text, on one line, without a final full stop. */
const sentence = (text: string): string => (text.replaceAll(/\s+/g, " ").split(/\. /)[0] ?? "").replace(/\.$/, "").slice(0, 240);

/** Major version of a driver such as `580.95.05`; null when it has none. */
export function driverMajor(version: string): number | null {
  const major = /^(\d+)\./.exec(version)?.[1];
  return major === undefined ? null : Number(major);
}
