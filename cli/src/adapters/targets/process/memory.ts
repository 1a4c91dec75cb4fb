import { readFile } from "node:fs/promises";
import { freemem, totalmem } from "node:os";
import { mib, type MiB } from "../../../domain/units.js";

const kib = 1024;

/** Memory a candidate can use: what the machine has available, or what is left of this process's cgroup when that is less. */
export async function freeMemory(): Promise<{ freeMiB: MiB; totalMiB: MiB }> {
  const machine = await machineMemory();
  const limits = await cgroupMemory();
  const total = Math.min(machine.total, ...limits.map((each) => each.limit));
  const free = Math.min(machine.free, ...limits.map((each) => each.limit - each.used));
  return { freeMiB: toMiB(Math.max(0, free)), totalMiB: toMiB(total) };
}

async function machineMemory(): Promise<{ total: number; free: number }> {
  const text = await readFile("/proc/meminfo", "utf8").catch(() => "");
  const field = (name: string): number | null => {
    const value = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1];
    return value === undefined ? null : Number(value) * kib;
  };
  return { total: field("MemTotal") ?? totalmem(), free: field("MemAvailable") ?? freemem() };
}

/** The limits of this cgroup and of all above it. Page cache that can be dropped does not count as used. */
async function cgroupMemory(): Promise<{ limit: number; used: number }[]> {
  const own = /^0::(.*)$/m.exec(await readFile("/proc/self/cgroup", "utf8").catch(() => ""))?.[1];
  if (own === undefined) return [];
  const parts = own.split("/").filter((part) => part !== "");
  const paths = Array.from({ length: parts.length + 1 }, (_, count) => ["/sys/fs/cgroup", ...parts.slice(0, count)].join("/"));
  const found = await Promise.all(paths.map(readCgroup));
  return found.filter((each) => each !== null);
}

async function readCgroup(path: string): Promise<{ limit: number; used: number } | null> {
  try {
    const limit = Number((await readFile(`${path}/memory.max`, "utf8")).trim());
    const current = Number((await readFile(`${path}/memory.current`, "utf8")).trim());
    if (!Number.isFinite(limit) || !Number.isFinite(current)) return null;
    const inactive = /^inactive_file (\d+)$/m.exec(await readFile(`${path}/memory.stat`, "utf8"))?.[1];
    return { limit, used: current - Number(inactive ?? 0) };
  } catch {
    return null;
  }
}

const toMiB = (bytes: number) => mib(Math.floor(bytes / 1048576));
