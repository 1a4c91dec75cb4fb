import { access, readFile } from "node:fs/promises";
import { arch, availableParallelism, cpus, platform } from "node:os";
import type { CpuFacts, SystemFacts } from "../../domain/doctor/facts.js";
import { cpuFlags, cpuQuota, distributionName, wslVersion } from "../../domain/doctor/linux-files.js";

const read = (path: string): Promise<string> => readFile(path, "utf8").catch(() => "");

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** The system this process sees: distribution, kernel, container or not, WSL. */
export async function inspectSystem(release: string): Promise<SystemFacts> {
  const [osRelease, version, docker, podman, mounts] = await Promise.all([
    read("/etc/os-release"),
    read("/proc/version"),
    exists("/.dockerenv"),
    exists("/run/.containerenv"),
    read("/proc/1/cgroup"),
  ]);
  return {
    platform: platform(),
    release,
    architecture: arch(),
    distribution: distributionName(osRelease),
    wsl: wslVersion(version),
    container: docker || podman || /docker|kubepods|containerd|libpod/.test(mounts),
  };
}

/** The processors this process may use, and what they can do. */
export async function inspectCpu(): Promise<CpuFacts> {
  const [cpuinfo, quota] = await Promise.all([read("/proc/cpuinfo"), smallestQuota()]);
  const model = cpus()[0]?.model.trim().replaceAll(/\s+/g, " ") ?? "";
  return {
    model: model === "" ? "unknown processor" : model,
    available: availableParallelism(),
    quota,
    flags: cpuFlags(cpuinfo),
  };
}

/** The tightest `cpu.max` of this cgroup and those above it. */
async function smallestQuota(): Promise<number | null> {
  const own = /^0::(.*)$/m.exec(await read("/proc/self/cgroup"))?.[1];
  if (own === undefined) return null;
  const parts = own.split("/").filter((part) => part !== "");
  const paths = Array.from({ length: parts.length + 1 }, (_, depth) =>
    ["/sys/fs/cgroup", ...parts.slice(0, depth), "cpu.max"].join("/"),
  );
  const quotas = (await Promise.all(paths.map(read))).map(cpuQuota).filter((quota) => quota !== null);
  return quotas.length === 0 ? null : Math.min(...quotas);
}
