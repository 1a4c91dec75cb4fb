import { blocker, ok, warning, type DoctorFinding } from "../doctor/finding.js";
import { commandsFor, type SystemCommands } from "./commands.js";
import type { NodeFacts } from "./facts.js";
import { explainGpuFailure } from "./gpu-container-errors.js";

/** A container that is started for a moment, to see whether a new one could have the GPU now. */
export interface GpuContainerProbe {
  /** Container name, new for each probe, so that one left behind by a lost connection is not in the way. */
  name: string;
  /** Image that is on the node already; nothing is pulled. */
  image: string;
  /** UUID of the reserved GPU or MIG instance, which it must see; null when any will do. */
  gpu: string | null;
  /** Its CDI name on this node (`cdiDeviceFor`). */
  device: string;
  /** As whom the engine answers. */
  as: "user" | "sudo";
  /** What is asked inside: the driver's own tool, or only whether its device nodes are there. */
  look: "nvidia-smi" | "device-nodes";
}

type Argv = readonly [string, ...string[]];

/**
 * `docker run` of the probe: no network, nothing writable, and the GPU by CDI exactly as a service gets it. `nvidia-smi` is mounted
 * by the CDI specification, so the image needs none; where a specification leaves it out, the device nodes are looked at.
 */
export function gpuContainerCommand({ name, image, device, as, look }: GpuContainerProbe): Argv {
  const hardening = ["--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
  const limits = ["--memory", "512m", "--pids-limit", "64", "--log-driver", "none"];
  const run = ["run", "--rm", "--pull", "never", "--name", name, "--label", "gpuctl.probe=gpu", ...hardening, ...limits];
  const what =
    look === "nvidia-smi" ? ["--entrypoint", "nvidia-smi", image, "-L"] : ["--entrypoint", "/bin/sh", image, "-c", nodesScript];
  return dockerCommand(as, [...run, "--device", device, ...what]);
}

const nodesScript = "for node in /dev/nvidiactl /dev/dxg; do [ -c $node ] && echo device node $node && exit 0; done; exit 3";

/** Removes a probe that did not end by itself. */
export const removeGpuContainer = ({ name, as }: Pick<GpuContainerProbe, "name" | "as">): Argv =>
  dockerCommand(as, ["rm", "--force", "--volumes", name]);

/** A command for the engine, as whoever it answers. */
export function dockerCommand(as: GpuContainerProbe["as"], args: readonly string[]): Argv {
  return as === "sudo" ? ["sudo", "-n", "docker", ...args] : ["docker", ...args];
}

/** How the probe ended; null when it did not, within its time. */
export type GpuContainerResult = { code: number | null; stdout: string; stderr: string } | null;

/** Whether `nvidia-smi` is what failed because it is not in the container, so that the device nodes should be looked at. */
export function wantsDeviceNodes(result: GpuContainerResult): boolean {
  return result?.code === 127 && result.stderr.includes('exec: "nvidia-smi": executable file not found');
}

/** The finding: a new container can have the GPU, or in Docker's own words why not and what to type. */
export function judgeGpuContainer(
  probe: GpuContainerProbe,
  result: GpuContainerResult,
  facts: Pick<NodeFacts, "access" | "system" | "driver" | "toolkit">,
): DoctorFinding {
  const commands = commandsFor(facts);
  if (result === null) {
    const because = "a GPU that fell off the bus or a stuck driver makes it wait";
    const next = [`${commands.sudo}dmesg | grep -iE 'nvrm|xid'`, `${commands.sudo}reboot`];
    return blocker("GPU", "gpu-container-hangs", "a container with the GPU did not end in time", because, next);
  }
  if (result.code !== 0) return refused(result, commands, facts);
  const seen = result.stdout.split(/\r?\n/).filter((line) => /^GPU \d+: |^\s+MIG |^device node /.test(line));
  const { device } = probe;
  if (seen.length === 0) {
    const because = `${probe.look} said nothing of one: ${result.stdout.trim().slice(0, 120) || "no output"}`;
    const next = [reproduce(probe), "nvidia-ctk cdi list"];
    return blocker("GPU", "gpu-container-blind", `a container with ${device} starts and sees no GPU`, because, next);
  }
  const listsUuids = probe.look === "nvidia-smi" && probe.gpu !== null;
  if (listsUuids && !seen.some((line) => line.includes(`UUID: ${probe.gpu ?? ""})`))) {
    const because = `it sees ${seen.map((line) => line.trim()).join(", ")}`;
    const next = [`${commands.sudo}nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, reproduce(probe)];
    return blocker("GPU", "gpu-container-other", `a container with ${device} sees another GPU`, because, next);
  }
  if (probe.look === "device-nodes") {
    const because = "its CDI specification mounts no nvidia-smi, so that only the device nodes could be looked at";
    const next = [`${commands.sudo}nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`];
    return warning("GPU", "gpu-container-unproven", `a container with ${device} starts and has the device nodes`, because, next);
  }
  return ok(
    "GPU",
    "gpu-container",
    `a container starts and sees ${seen.map((line) => line.trim().split(" (UUID")[0]).join(", ")}`,
  );
}

const reproduce = (probe: GpuContainerProbe): string =>
  `${probe.as === "sudo" ? "sudo " : ""}docker run --rm --device ${probe.device} --entrypoint nvidia-smi ${probe.image} -L`;

function refused(
  { code, stdout, stderr }: NonNullable<GpuContainerResult>,
  commands: SystemCommands,
  facts: Parameters<typeof judgeGpuContainer>[2],
): DoctorFinding {
  const said = `${stderr}\n${stdout}`.replaceAll(/\s+/g, " ").trim();
  const detail =
    said.replace(/ Run 'docker run --help' for more information$/, "").slice(0, 400) ||
    `docker run ended with status ${code ?? "unknown"}`;
  const { code: finding, what, next } = explainGpuFailure(detail, commands, facts);
  return blocker("GPU", finding, what, detail, next);
}
