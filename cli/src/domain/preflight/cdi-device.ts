import type { NodeFacts } from "./facts.js";

type DeviceFacts = Pick<NodeFacts, "docker" | "toolkit" | "smi">;

const prefix = "nvidia.com/gpu=";

/** CDI devices of NVIDIA GPUs on a node: those that Docker lists where it lists any, else those that specifications name. */
export function cdiDevices({ docker, toolkit }: Omit<DeviceFacts, "smi">): readonly string[] {
  const listed = docker.state === "reachable" ? docker.cdiDevices : null;
  const named = toolkit.specs.seen ? toolkit.specs.value.flatMap(({ devices }) => devices) : [];
  return [...new Set(listed ?? named)].filter((device) => device.startsWith(prefix));
}

/**
 * The name by which a container asks for a reserved GPU on this node; null when it has none. Specifications name GPUs by UUID, by
 * index or both, and on WSL2 only all at once, which is the same where there is one.
 * @param gpu UUID of a GPU or MIG instance; null for all GPUs of the node
 */
export function cdiDeviceFor(facts: DeviceFacts, gpu: string | null): string | null {
  const devices = new Set(cdiDevices(facts));
  const gpus = facts.smi.state === "gpus" ? facts.smi.gpus : [];
  const whole = gpus.find(({ uuid }) => uuid === gpu);
  const alone = whole !== undefined && gpus.length === 1 && whole.instances.length === 0;
  const names =
    gpu === null ? ["all"] : [gpu, ...(whole === undefined ? [] : [whole.index.toString()]), ...(alone ? ["all"] : [])];
  return names.map((name) => prefix + name).find((device) => devices.has(device)) ?? null;
}
