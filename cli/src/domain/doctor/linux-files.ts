import type { SystemFacts } from "./facts.js";

/** Readers of Linux's own text files. Pure, so that captures of other machines can be tests. */

/** Feature flags of the first processor: `flags` on x86-64, `Features` on ARM. */
export function cpuFlags(cpuinfo: string): string[] | null {
  const line = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuinfo)?.[1];
  return line === undefined ? null : line.trim().split(/\s+/);
}

/** Processors' worth of time of a cgroup v2 `cpu.max` (`200000 100000` is 2), or null for `max`. */
export function cpuQuota(cpuMax: string): number | null {
  const [quota, period] = cpuMax.trim().split(/\s+/).map(Number);
  return quota === undefined || period === undefined || !(quota > 0) || !(period > 0)
    ? null
    : Math.round((quota / period) * 100) / 100;
}

/** Version 1 has a kernel named `…-Microsoft`, version 2 one named `…-microsoft-standard-WSL2`. */
export function wslVersion(procVersion: string): SystemFacts["wsl"] {
  if (!/microsoft/i.test(procVersion)) return null;
  return /WSL2|microsoft-standard/.test(procVersion) ? 2 : 1;
}

/** `PRETTY_NAME` of /etc/os-release. */
export function distributionName(osRelease: string): string | null {
  return /^PRETTY_NAME="?([^"\n]+)"?$/m.exec(osRelease)?.[1] ?? null;
}

/** Version of the loaded kernel module, from /proc/driver/nvidia/version. */
export function kernelModule(text: string): string | null {
  return /Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s/.exec(text)?.[1] ?? null;
}
