import { driverMajor, type Gpu, type NvidiaSmi } from "../nvidia-smi.js";
import type { GpuFacts, ProjectFacts, ProjectService, SystemFacts } from "./facts.js";
import { blocker, ok, warning, type DoctorFinding } from "./finding.js";

/** The driver branch that hosts are prepared with and images are built for. */
const leastDriver = 580;
const leastComputeCapability = 6.0;
const leastMemoryMiB = 4096 - 256;

/** How much a missing GPU matters is for the project to say. */
export function checkGpu(facts: GpuFacts, system: SystemFacts, services: readonly ProjectService[]): DoctorFinding[] {
  if (facts.smi.state === "gpus") {
    return [...facts.smi.gpus.flatMap((gpu) => checkOne(gpu, system)), ...checkProof(system, services)];
  }
  return [withoutGpu(facts, facts.smi, system, services)];
}

function withoutGpu(
  facts: GpuFacts,
  smi: Exclude<NvidiaSmi, { state: "gpus" }>,
  system: SystemFacts,
  services: readonly ProjectService[],
): DoctorFinding {
  const [code, what, because, next] = explain(smi, facts, system);
  const requiring = services.filter((service) => service.requiresCuda).map(({ name }) => name);
  if (requiring.length > 0)
    return blocker("GPU", code, what, `${because}; ${requiring.join(" and ")} cannot serve without one`, next);
  const preferring = services.some((service) => service.prefersCuda);
  const harmless = (smi.state === "absent" || smi.state === "no-devices") && !facts.pciDevices;
  if (harmless && !preferring) return ok("GPU", code, `${what}: services run on the CPU`);
  return warning("GPU", code, what, `${because}; services will run on the CPU`, next);
}

type Explanation = readonly [code: string, what: string, because: string, next: readonly string[]];

function explain(
  smi: Exclude<NvidiaSmi, { state: "gpus" }>,
  { pciDevices, kernelModule }: GpuFacts,
  system: SystemFacts,
): Explanation {
  const install =
    system.wsl === 2
      ? "install the NVIDIA driver in Windows, then: wsl --shutdown"
      : "apt install nvidia-driver-580-server-open nvidia-utils-580-server";
  switch (smi.state) {
    case "absent":
      if (pciDevices) {
        const because = `the PCI bus has ${pciDevices} NVIDIA ${pciDevices === 1 ? "GPU" : "GPUs"}, and nvidia-smi is not on PATH`;
        return ["gpu-without-driver", "there is a GPU, but no driver", because, [install, "then restart the machine"]];
      }
      return [
        "no-gpu",
        "no NVIDIA GPU",
        "nvidia-smi is not on PATH and no GPU was seen",
        ["gpuctl init --target compose, for hosts that have one"],
      ];
    case "no-devices":
      return [
        "no-gpu",
        "no NVIDIA GPU",
        "the driver is loaded and finds no device",
        ["nvidia-smi -L", "lspci -d 10de:", "dmesg | grep -i nvrm"],
      ];
    case "mismatch":
      return [
        "driver-mismatch",
        "the NVIDIA driver was upgraded and the machine not restarted",
        `${smi.detail}${kernelModule === null ? "" : ` (kernel module ${kernelModule})`}`,
        ["sudo reboot"],
      ];
    case "no-driver":
      return [
        "driver-not-loaded",
        "the NVIDIA driver does not answer",
        smi.detail,
        ["sudo modprobe nvidia", "dkms status", install],
      ];
    case "too-old":
      return ["driver-old", "the NVIDIA driver is too old to be asked", smi.detail, [install]];
    case "hangs":
      return [
        "driver-hangs",
        `nvidia-smi did not answer within ${smi.seconds} s`,
        "a GPU that fell off the bus or a stuck driver makes it wait",
        ["dmesg | grep -iE 'nvrm|xid'", "sudo reboot"],
      ];
    case "failed":
      return ["driver-failed", "nvidia-smi failed", smi.detail, ["nvidia-smi", "dmesg | grep -iE 'nvrm|xid'"]];
  }
}

function checkOne(gpu: Gpu, system: SystemFacts): DoctorFinding[] {
  const label = `GPU ${gpu.index} ${gpu.name}`;
  if (gpu.fault !== null) {
    return [
      warning("GPU", "gpu-failed", `${label} has failed`, gpu.fault, [
        "dmesg | grep -iE 'nvrm|xid'",
        `sudo nvidia-smi --gpu-reset -i ${gpu.index}`,
        "sudo reboot",
      ]),
    ];
  }
  const findings = [ok("GPU", "gpu", describe(gpu))];
  const major = driverMajor(gpu.driver);
  if (major !== null && major < leastDriver) {
    const next =
      system.wsl === 2 ? ["update the NVIDIA driver in Windows"] : ["apt install nvidia-driver-580-server-open", "sudo reboot"];
    findings.push(
      warning(
        "GPU",
        "driver-old",
        `${label}: driver ${gpu.driver}`,
        `the service images need driver ${leastDriver} or newer`,
        next,
      ),
    );
  }
  if (gpu.computeCapability !== null && gpu.computeCapability < leastComputeCapability) {
    const because = `current CUDA builds need compute capability ${leastComputeCapability.toFixed(1)} or higher`;
    findings.push(
      warning("GPU", "gpu-old", `${label}: compute capability ${gpu.computeCapability.toFixed(1)}`, because, [
        "use the CPU: device: cpu",
      ]),
    );
  }
  if (gpu.totalMiB !== null && gpu.totalMiB < leastMemoryMiB) {
    findings.push(
      warning("GPU", "gpu-small", `${label}: ${gpu.totalMiB} MiB`, "an embedder and a reranker need about 4 GiB", [
        "use the CPU for one of them: device: cpu",
      ]),
    );
  }
  if (gpu.uncorrectedErrors !== null && gpu.uncorrectedErrors > 0) {
    findings.push(
      warning(
        "GPU",
        "gpu-memory-errors",
        `${label}: ${gpu.uncorrectedErrors} uncorrected memory errors`,
        "answers computed on it may be wrong",
        [`nvidia-smi -q -d ECC,PAGE_RETIREMENT -i ${gpu.index}`, "have the card replaced"],
      ),
    );
  }
  if (gpu.mig === true && gpu.instances.length === 0) {
    const next = [`sudo nvidia-smi mig -i ${gpu.index} -cgi 19 -C`, `or turn it off: sudo nvidia-smi -i ${gpu.index} -mig 0`];
    findings.push(
      warning("GPU", "mig-without-instance", `${label}: MIG is on`, "it has no MIG instance, so nothing can run on it", next),
    );
  }
  return findings;
}

function describe(gpu: Gpu): string {
  const memory =
    gpu.totalMiB === null
      ? "memory unknown"
      : gpu.freeMiB === null
        ? `${gpu.totalMiB} MiB`
        : `${gpu.freeMiB} of ${gpu.totalMiB} MiB free`;
  const capability = gpu.computeCapability === null ? "" : `, sm_${gpu.computeCapability.toFixed(1).replace(".", "")}`;
  const mig = gpu.instances.length > 0 ? `, MIG: ${gpu.instances.map(({ profile }) => profile).join(", ")}` : "";
  return `GPU ${gpu.index} ${gpu.name}: ${memory}${capability}, driver ${gpu.driver}${mig} (${gpu.uuid})`;
}

/** On WSL2 the driver lists no process of Linux, so the strongest proof can never be given there. */
function checkProof(system: SystemFacts, services: readonly ProjectService[]): DoctorFinding[] {
  const asking = services.filter(({ proof }) => proof === "process").map(({ name }) => name);
  if (system.wsl !== 2 || asking.length === 0) return [];
  const because = "the driver of Windows lists no process of Linux";
  return [
    blocker(
      "GPU",
      "proof-impossible",
      `${asking.join(" and ")} asks for device proof by process, which WSL2 cannot give`,
      because,
      ["in gpuctl.yaml: device: { proof: vram }"],
    ),
  ];
}

/** The truth about the device: the engine of the process target runs on the CPU, whatever cards the machine has. */
export function checkEngine(project: ProjectFacts | null, gpus: number): DoctorFinding[] {
  if (project?.target !== "process") return [];
  const because = "the engine of the process target is ONNX Runtime on the CPU in this version";
  const named = (services: readonly ProjectService[]): string => services.map(({ name }) => name).join(" and ");
  const requiring = project.services.filter(({ requiresCuda }) => requiresCuda);
  if (requiring.length > 0) {
    const next = ["in gpuctl.yaml: device: auto"];
    return [blocker("GPU", "engine-without-cuda", `${named(requiring)} requires cuda and would answer 503`, because, next)];
  }
  const preferring = project.services.filter(({ prefersCuda }) => prefersCuda);
  if (preferring.length > 0) {
    return [
      warning("GPU", "engine-without-cuda", `${named(preferring)} prefers cuda and will run on the CPU`, because, [
        "in gpuctl.yaml: device: auto",
      ]),
    ];
  }
  return gpus > 0 ? [ok("GPU", "engine-without-cuda", "the process target leaves the GPU unused in this version")] : [];
}
