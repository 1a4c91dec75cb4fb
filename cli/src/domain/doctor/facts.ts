import type { NvidiaSmi } from "../nvidia-smi.js";
import type { TargetKind } from "../names.js";

/** What was seen on this machine, without judgement. Collected by an adapter; judged by the checks beside this file. */
export interface HostFacts {
  node: { version: string; executable: string };
  python: PythonFacts;
  system: SystemFacts;
  cpu: CpuFacts;
  memory: { totalMiB: number; availableMiB: number; machineMiB: number };
  disks: readonly DiskFacts[];
  gpu: GpuFacts;
  docker: DockerFacts;
}

export type PythonFacts = {
  /** Command that was tried. */
  command: string;
  /** Interpreter of the services' own environment; null when that has not been made. */
  environment: string | null;
} & (
  | { state: "found"; version: readonly [number, number, number]; executable: string; venv: boolean }
  | { state: "absent" }
  | { state: "broken"; detail: string }
);

export interface SystemFacts {
  platform: string;
  release: string;
  architecture: string;
  distribution: string | null;
  /** Version of the Windows Subsystem for Linux, or null outside of it. */
  wsl: 1 | 2 | null;
  container: boolean;
}

export interface CpuFacts {
  model: string;
  /** Logical processors this process may run on. */
  available: number;
  /** Processors' worth of time that the cgroup grants, or null when it grants all. */
  quota: number | null;
  /** Feature flags as the kernel names them, or null when they cannot be read. */
  flags: readonly string[] | null;
}

export interface DiskFacts {
  purpose: "state" | "models" | "cache";
  path: string;
  /** Of the nearest folder that exists. */
  freeBytes: number | null;
  writable: boolean;
  /** Why it cannot be used, in the system's words. */
  detail: string | null;
}

export interface GpuFacts {
  smi: NvidiaSmi;
  /** NVIDIA display or 3D controllers on the PCI bus; null when the bus cannot be read. */
  pciDevices: number | null;
  /** Version of the loaded kernel module, or null. */
  kernelModule: string | null;
}

export type DockerFacts =
  | { state: "absent" }
  | { state: "unreachable"; client: string; detail: string }
  | { state: "reachable"; client: string; server: string; cdiDevices: readonly string[]; runtimes: readonly string[] };

/** What the project adds to the picture; null without a project file. */
export interface ProjectFacts {
  file: string;
  environment: string;
  target: TargetKind;
  services: readonly ProjectService[];
  models: readonly { name: string; bytes: number | null; problem: { because: string; nextSteps: readonly string[] } | null }[];
}

export interface ProjectService {
  name: string;
  prefersCuda: boolean;
  requiresCuda: boolean;
  /** Weakest proof accepted. */
  proof: string;
}
