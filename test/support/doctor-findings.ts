/** Every finding that `gpuctl doctor` can print, made by its own functions from variations of what can be seen. */
import { checkCertificates } from "../../cli/src/domain/doctor/certificates.js";
import { diagnose, type ProjectState } from "../../cli/src/domain/doctor/diagnose.js";
import type { DockerFacts, HostFacts, ProjectFacts, PythonFacts } from "../../cli/src/domain/doctor/facts.js";
import type { DoctorFinding } from "../../cli/src/domain/doctor/finding.js";
import type { NvidiaSmi } from "../../cli/src/domain/nvidia-smi.js";
import { portFindings } from "../../cli/src/adapters/targets/process/port-findings.js";
import { captures, smiOf } from "./nvidia-captures.js";

const system: HostFacts["system"] = {
  platform: "linux",
  release: "6.1.0-30-amd64",
  architecture: "x64",
  distribution: "Debian GNU/Linux 12 (bookworm)",
  wsl: null,
  container: false,
};

const interpreter = { command: "python3", environment: null } as const;

export const hostSeen: HostFacts = {
  node: { version: "24.21.0", executable: "/usr/bin/node" },
  python: { ...interpreter, state: "absent" },
  system,
  cpu: { model: "AMD EPYC 9354P", available: 8, quota: null, flags: ["avx2"] },
  memory: { totalMiB: 32_000, availableMiB: 28_000, machineMiB: 32_000 },
  disks: [],
  gpu: { smi: { state: "absent" }, pciDevices: 0, kernelModule: null },
  docker: { state: "absent" },
};

const service = { name: "embedder", prefersCuda: false, requiresCuda: false, proof: "self" };
const preferring = { ...service, prefersCuda: true };
const requiring = { ...preferring, name: "reranker", requiresCuda: true, proof: "process" };

const project: ProjectFacts = {
  file: "/p/gpuctl.yaml",
  environment: "local",
  target: "process",
  services: [service],
  models: [],
};
const usable = (changes: Partial<ProjectFacts>): ProjectState => ({
  state: "usable",
  facts: { ...project, ...changes },
  ports: [],
});

const pythons: readonly PythonFacts[] = [
  { ...interpreter, state: "absent" },
  { ...interpreter, state: "broken", detail: "it ended with SIGILL" },
  { ...interpreter, state: "found", version: [3, 9, 2], executable: "/usr/bin/python3", venv: true },
  { ...interpreter, state: "found", version: [3, 11, 2], executable: "/usr/bin/python3", venv: false },
];

const t4 = smiOf("t4");
const [card] = t4.state === "gpus" ? t4.gpus : [];
if (card === undefined) throw new Error("the capture of a T4 has no GPU");

const drivers: readonly NvidiaSmi[] = [
  ...captures.map(smiOf),
  { state: "absent" },
  { state: "hangs", seconds: 10 },
  {
    state: "gpus",
    gpus: [
      { ...card, computeCapability: 5.2, totalMiB: 2048, freeMiB: 2000, uncorrectedErrors: 3, driver: "535.183.01" },
      { ...card, index: 1, mig: true },
    ],
  },
];

const engines: readonly DockerFacts[] = [
  { state: "absent" },
  { state: "unreachable", client: "28.5.2", detail: "permission denied while trying to connect" },
  { state: "reachable", client: "28.5.2", server: "28.5.2", cdiDevices: [], runtimes: ["runc"] },
  { state: "reachable", client: "24.0.9", server: "24.0.9", cdiDevices: [], runtimes: ["runc"] },
];

const purposes = ["state", "models", "cache"] as const;
const disks = (room: { freeBytes: number | null; writable?: boolean }): HostFacts["disks"] =>
  purposes.map((purpose) => ({ purpose, path: `/d/${purpose}`, writable: true, detail: null, ...room }));

const hosts: readonly HostFacts[] = [
  { ...hostSeen, node: { ...hostSeen.node, version: "20.20.0" } },
  ...pythons.flatMap((python) => [
    { ...hostSeen, python },
    { ...hostSeen, python: { ...python, environment: "/c/bin/python" } },
  ]),
  { ...hostSeen, system: { ...system, platform: "darwin", distribution: null } },
  { ...hostSeen, system: { ...system, container: true, platform: "freebsd" } },
  { ...hostSeen, system: { ...system, wsl: 1 } },
  { ...hostSeen, cpu: { ...hostSeen.cpu, quota: 0.5, flags: null } },
  { ...hostSeen, cpu: { ...hostSeen.cpu, flags: ["sse2"] } },
  { ...hostSeen, memory: { totalMiB: 512, availableMiB: 300, machineMiB: 16_000 } },
  { ...hostSeen, memory: { totalMiB: 16_000, availableMiB: 300, machineMiB: 16_000 } },
  { ...hostSeen, memory: { totalMiB: 16_000, availableMiB: 3000, machineMiB: 16_000 } },
  ...[{ freeBytes: 1e6, writable: false }, { freeBytes: null }, { freeBytes: 1e6 }, { freeBytes: 0.9e9 }].flatMap((room) => [
    { ...hostSeen, disks: disks(room) },
    { ...hostSeen, disks: disks(room), python: { ...interpreter, environment: "/c/bin/python", state: "absent" } as const },
  ]),
  ...drivers.flatMap((smi) =>
    [0, 1, 2].map((pciDevices) => ({ ...hostSeen, gpu: { smi, pciDevices, kernelModule: "580.95.05" } })),
  ),
  { ...hostSeen, system: { ...system, wsl: 2 }, gpu: { smi: smiOf("rtx4070-wsl2"), pciDevices: 0, kernelModule: null } },
  ...engines.map((docker) => ({ ...hostSeen, docker, gpu: { smi: t4, pciDevices: 1, kernelModule: null } })),
];

const problem = { because: "gpuctl.lock.json does not pin it", nextSteps: ["gpuctl models fetch"] };

const projects: readonly ProjectState[] = [
  { state: "absent" },
  { state: "unusable", message: "the configuration has 2 problems\n\nand more", nextSteps: ["gpuctl config validate"] },
  usable({ models: [{ name: "bge-m3", bytes: null, problem }] }),
  ...(["process", "compose"] as const).flatMap((target) =>
    [[service], [preferring], [requiring], [preferring, requiring]].map((services) => usable({ target, services })),
  ),
];

const withoutHttps = [
  "the ingress of gpu-1 has no certificate for a.example.net yet, so HTTPS does not answer there: refused; it asks again",
  "the certificate of the proxy of gpu-1 for a.example.net ended on 2026-11-20, so HTTPS does not answer there; it asks again",
];

/** What doctor says about this machine and a project, without the ports. */
export const findingsHere = (): DoctorFinding[] => [
  ...hosts.flatMap((facts) => projects.flatMap((state) => diagnose(facts, state))),
  ...checkCertificates(withoutHttps),
];

/** What it says about ports of the process target; `taken` is one that somebody listens on. */
export async function findingsOfPorts(taken: number): Promise<DoctorFinding[]> {
  const wanted = [
    { service: "embedder" as const, host: "127.0.0.1", port: taken },
    // An address for documentation, which no machine has.
    { service: "reranker" as const, host: "192.0.2.1", port: taken },
  ];
  const found = await portFindings(wanted, new Set());
  return found.map((finding) => ({ group: "ports", ...finding }));
}
