import type { CpuFacts, DiskFacts, HostFacts, SystemFacts } from "./facts.js";
import { blocker, ok, warning, type DoctorFinding } from "./finding.js";

/** Three services with the default model, at rest. */
const leastMemoryMiB = 1024;
const goodMemoryMiB = 4096;
const leastDiskBytes: Readonly<Record<DiskFacts["purpose"], number>> = { state: 64e6, models: 200e6, cache: 600e6 };
const goodDiskBytes: Readonly<Record<DiskFacts["purpose"], number>> = { state: 1e9, models: 2e9, cache: 2e9 };

export function checkSystem(system: SystemFacts): DoctorFinding[] {
  const name = [system.distribution ?? system.platform, `kernel ${system.release}`, system.architecture].join(", ");
  const where = system.container ? `${name}, inside a container` : name;
  const findings: DoctorFinding[] = [];
  if (system.platform === "linux") findings.push(ok("machine", "system", where));
  else {
    const because = "the keeper of the process target needs Linux (pidfd, /proc)";
    findings.push(blocker("machine", "system-unsupported", where, because, ["run gpuctl in WSL2, a container or a Linux host"]));
  }
  if (system.wsl === 2) findings.push(ok("machine", "wsl2", "Windows Subsystem for Linux 2: the GPU driver is that of Windows"));
  if (system.wsl === 1) {
    const because = "WSL 1 has no Linux kernel: no GPU, no cgroups";
    findings.push(
      blocker("machine", "wsl1", "Windows Subsystem for Linux 1", because, ["in PowerShell: wsl --set-version <distribution> 2"]),
    );
  }
  return findings;
}

export function checkCpu(cpu: CpuFacts, architecture: string): DoctorFinding[] {
  const quota = cpu.quota !== null && cpu.quota < cpu.available ? `, of which the cgroup grants ${cpu.quota}` : "";
  const findings = [ok("machine", "cpu", `${cpu.model}: ${cpu.available} processors${quota}`)];
  if (cpu.quota !== null && cpu.quota < 1) {
    const because = "one inference uses a whole core; less makes every request wait for the next period of the quota";
    findings.push(
      warning("machine", "cpu-quota-low", `the cgroup grants ${cpu.quota} of a processor`, because, [
        "raise the CPU limit of the container to 1 or more",
      ]),
    );
  }
  return [...findings, checkVectors(cpu.flags, architecture)];
}

/** Names differ by maker: Intel's `avx512_vnni` and `avx_vnni`, ARM's `asimddp`. */
function checkVectors(flags: readonly string[] | null, architecture: string): DoctorFinding {
  if (flags === null) {
    return warning("machine", "cpu-features-unknown", "CPU features cannot be read", "/proc/cpuinfo says nothing about them", [
      "lscpu | grep -i flags",
    ]);
  }
  if (architecture === "arm64") {
    if (flags.includes("asimddp")) return ok("machine", "cpu-features", "CPU features: NEON, dot product (fast INT8)");
    return ok("machine", "cpu-features", "CPU features: NEON, no dot product (INT8 gains little)");
  }
  const vnni = flags.includes("avx512_vnni") || flags.includes("avx_vnni");
  const features = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"].filter((flag) => flags.includes(flag)).join(", ");
  if (!flags.includes("avx2")) {
    const because = "without AVX2 inference on the CPU is several times slower, and FAISS falls back to its generic code";
    return warning("machine", "cpu-without-avx2", "the CPU has no AVX2", because, [
      "use another host, or choose a newer CPU model for the virtual machine (host passthrough)",
    ]);
  }
  return ok("machine", "cpu-features", `CPU features: ${features}${vnni ? " (fast INT8)" : "; no VNNI, so INT8 gains little"}`);
}

export function checkMemory({ totalMiB, availableMiB, machineMiB }: HostFacts["memory"]): DoctorFinding {
  const limited = totalMiB < machineMiB ? `, limited by the cgroup (the machine has ${gib(machineMiB)})` : "";
  const what = `${gib(availableMiB)} of ${gib(totalMiB)} memory available${limited}`;
  const next = ["free -h, then end what is not needed", "or raise the memory limit of the container"];
  if (availableMiB < leastMemoryMiB) {
    // What runs already may be the stack itself; whether another instance fits is decided exactly before a deploy.
    const level = totalMiB < leastMemoryMiB ? blocker : warning;
    return level("machine", "memory-low", what, `three services with the default model need about ${gib(leastMemoryMiB)}`, next);
  }
  if (availableMiB < goodMemoryMiB) {
    return warning("machine", "memory-tight", what, "an upgrade runs old and new instances side by side for a while", next);
  }
  return ok("machine", "memory", what);
}

/** `needed`: something has still to be written there before a deploy; what is complete needs no room. */
export function checkDisk({ purpose, path, freeBytes, writable, detail }: DiskFacts, needed: boolean): DoctorFinding {
  const label = { state: "state", models: "model store", cache: "cache" }[purpose];
  const variable = { state: "GPUCTL_STATE_HOME", models: "GPUCTL_MODEL_STORE", cache: "GPUCTL_CACHE_DIR" }[purpose];
  const elsewhere = `or keep it elsewhere: ${variable}=/a/folder`;
  const level = needed ? blocker : warning;
  if (!writable) {
    const because = detail ?? "it is not this user's to write";
    return level("storage", `${purpose}-not-writable`, `the ${label} ${path} cannot be written`, because, [
      `ls -ld ${path}`,
      elsewhere,
    ]);
  }
  if (freeBytes === null) {
    return warning(
      "storage",
      `${purpose}-unknown`,
      `${label} ${path}: free space unknown`,
      detail ?? "the file system does not say",
      [`df -h ${path}`],
    );
  }
  const what = `${label} ${path}: ${gigabytes(freeBytes)} free`;
  const next = [`df -h ${path}`, ...(purpose === "models" ? [] : ["gpuctl prune"]), elsewhere];
  if (freeBytes < leastDiskBytes[purpose]) {
    return level("storage", `${purpose}-disk-full`, what, `at least ${gigabytes(leastDiskBytes[purpose])} are needed`, next);
  }
  if (freeBytes < goodDiskBytes[purpose]) {
    return warning("storage", `${purpose}-disk-low`, what, "models, logs and kept releases grow", next);
  }
  return ok("storage", `${purpose}-disk`, what);
}

const gib = (mib: number): string => `${(mib / 1024).toFixed(1)} GiB`;
const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
