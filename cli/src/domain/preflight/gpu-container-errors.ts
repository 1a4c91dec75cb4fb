import type { SystemCommands } from "./commands.js";
import type { NodeFacts } from "./facts.js";

export interface GpuFailure {
  code: string;
  what: string;
  next: readonly string[];
}

type Explain = (commands: SystemCommands, facts: Pick<NodeFacts, "driver" | "toolkit">) => GpuFailure;

const generate = ({ sudo }: SystemCommands): string => `${sudo}nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`;

/** What Docker, runc, the container toolkit and the driver say, from the most telling to the least. Matched in one line of text. */
const failures: readonly (readonly [RegExp, Explain])[] = [
  [
    /driver\/library version mismatch/i,
    ({ sudo }) => ({
      code: "gpu-container-mismatch",
      what: "no new container can use the GPU: the driver was upgraded and the machine not restarted",
      next: [`${sudo}reboot`],
    }),
  ],
  [
    /No such image|Unable to find image|pull access denied/i,
    () => ({
      code: "gpu-container-image-missing",
      what: "whether a GPU container starts could not be tried: its image is not on the node",
      next: ["gpuctl images push, or check images: in gpuctl.yaml", "docker image ls"],
    }),
  ],
  [
    /unresolvable CDI devices|conflicting device/i,
    (commands, { toolkit }) => ({
      code: "gpu-container-unresolvable",
      what: "no GPU container starts: Docker knows no such CDI device",
      next: [...(toolkit.version.seen ? [] : commands.installToolkit), generate(commands), "nvidia-ctk cdi list"],
    }),
  ],
  [
    /could not select device driver "cdi"|could not select device driver cdi/i,
    ({ restartDocker }) => ({
      code: "gpu-container-cdi-off",
      what: "no GPU container starts: CDI is off in Docker",
      next: ['in /etc/docker/daemon.json: { "features": { "cdi": true } }', `${restartDocker}, which restarts every container`],
    }),
  ],
  [
    /could not select device driver/i,
    (commands) => ({
      code: "gpu-container-no-toolkit",
      what: "no GPU container starts: Docker has no way to give it a GPU",
      next: [...commands.installToolkit, generate(commands)],
    }),
  ],
  [
    /failed to stat CDI host device|error gathering device information/i,
    ({ sudo }) => ({
      code: "gpu-container-no-device",
      what: "no GPU container starts: a device node of the GPU is missing",
      next: [`${sudo}nvidia-modprobe -u -c 0`, `${sudo}modprobe nvidia_uvm`, "ls -l /dev/nvidia*"],
    }),
  ],
  [
    /hook[^:]*: .*(?:no such file or directory|executable file not found)|fork\/exec \S*nvidia-(?:ctk|cdi-hook)/i,
    (commands) => ({
      code: "gpu-container-hook-missing",
      what: "no GPU container starts: a program that the CDI specification names is missing",
      next: [...commands.installToolkit, generate(commands)],
    }),
  ],
  [
    /error mounting "[^"]*(?:nvidia|libcuda|libnv|cuda)[^"]*"/i,
    (commands) => ({
      code: "gpu-container-stale",
      what: "no GPU container starts: the CDI specification names libraries of another driver",
      next: [generate(commands)],
    }),
  ],
  [
    /error running (?:\w+ )?hook/i,
    (commands) => ({
      code: "gpu-container-hook-failed",
      what: "no GPU container starts: a program that the CDI specification names has failed",
      next: [generate(commands), "nvidia-ctk --version", `${commands.sudo}journalctl -u docker -n 50`],
    }),
  ],
  [
    /Failed to initialize NVML: Unknown Error|Failed to initialize NVML: Insufficient Permissions|CUDA_ERROR_NO_DEVICE/i,
    (commands) => ({
      code: "gpu-container-denied",
      what: "a container starts, but may not use the GPU",
      next: ["ls -l /dev/nvidia*", generate(commands), "docker info --format '{{.CgroupDriver}} {{.CgroupVersion}}'"],
    }),
  ],
  [
    /couldn't communicate with the NVIDIA driver|driver is not loaded|nvml error: driver not loaded/i,
    ({ sudo }) => ({
      code: "gpu-container-no-driver",
      what: "a container starts, but the NVIDIA driver does not answer",
      next: [`${sudo}modprobe nvidia`, "nvidia-smi"],
    }),
  ],
  [
    /permission denied.*docker(?:\.sock| daemon socket| API)|Cannot connect to the Docker daemon/i,
    ({ sudo }) => ({
      code: "gpu-container-no-engine",
      what: "whether a GPU container starts could not be tried: Docker's engine does not answer",
      next: [`${sudo}systemctl status docker`],
    }),
  ],
];

/** What a refusal means and what to type; an unknown one says so and shows Docker's words. */
export function explainGpuFailure(
  said: string,
  commands: SystemCommands,
  facts: Pick<NodeFacts, "driver" | "toolkit">,
): GpuFailure {
  const known = failures.find(([pattern]) => pattern.test(said));
  if (known !== undefined) return known[1](commands, facts);
  return {
    code: "gpu-container-failed",
    what: "no GPU container starts",
    next: [`${commands.sudo}journalctl -u docker -n 50`, "nvidia-ctk cdi list", "nvidia-smi"],
  };
}
