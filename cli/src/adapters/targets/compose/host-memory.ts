import { Failed } from "../../../domain/errors.js";
import type { ServiceName } from "../../../domain/names.js";
import { instanceSizes, queryArguments, readNvidiaSmi } from "../../../domain/nvidia-smi.js";
import type { DeviceMemory } from "../../../domain/strategy.js";
import { mib, type MiB } from "../../../domain/units.js";
import type { HostCommands } from "./host-commands.js";

/** A GPU of a node with the services that are given it. */
export interface GivenGpu {
  uuid: string;
  services: readonly ServiceName[];
}

/** Memory of the GPUs that services are given on a host, and the RAM for the others. @param services  all that run there */
export async function hostMemory(
  commands: HostCommands,
  given: readonly GivenGpu[],
  services: readonly ServiceName[],
): Promise<readonly DeviceMemory[]> {
  const onGpus = given.flatMap((gpu) => gpu.services);
  const others = services.filter((service) => !onGpus.includes(service));
  const ram = async (): Promise<DeviceMemory> => ({
    device: "cpu",
    place: commands.node,
    services: others,
    ...(await memoryOf(commands)),
  });
  return [...(await gpuMemory(commands, given)), ...(others.length > 0 || given.length === 0 ? [await ram()] : [])];
}

/** Throws Failed for a GPU whose memory is not known: a deploy that does not fit must not begin. Of a MIG instance the size is all that is told. */
async function gpuMemory(commands: HostCommands, given: readonly GivenGpu[]): Promise<readonly DeviceMemory[]> {
  if (given.length === 0) return [];
  const said = readNvidiaSmi(await commands.attempt({ argv: ["nvidia-smi", ...queryArguments] }), null);
  const list = given.some(({ uuid }) => isInstance(uuid)) ? await commands.attempt({ argv: ["nvidia-smi", "-L"] }) : null;
  const sizes = instanceSizes(list?.stdout ?? "");
  return given.map(({ uuid, services }): DeviceMemory => {
    const gpu = said.state === "gpus" ? said.gpus.find((each) => each.uuid === uuid) : undefined;
    const place = `${commands.node}, ${uuid}`;
    const size = sizes.get(uuid);
    if (size !== undefined) return { device: "cuda", place, services, freeMiB: null, totalMiB: size };
    if (gpu?.freeMiB != null && gpu.totalMiB !== null)
      return { device: "cuda", place, services, freeMiB: mib(gpu.freeMiB), totalMiB: mib(gpu.totalMiB) };
    throw new Failed(`the free memory of the GPU on ${commands.node} is not known`, {
      because: said.state === "gpus" ? `nvidia-smi does not list ${uuid}` : `nvidia-smi: ${said.state}`,
      nextSteps: [`nvidia-smi   # on ${commands.node}`, "gpuctl doctor"],
    });
  });
}

const isInstance = (uuid: string): boolean => uuid.startsWith("MIG-");

/** The RAM of a host: all of it, and what is available. */
export async function memoryOf(commands: HostCommands): Promise<{ freeMiB: MiB; totalMiB: MiB }> {
  const text = await commands.must({ argv: ["cat", "/proc/meminfo"] }, "the memory could not be looked at");
  const of = (name: string): number => Math.floor(Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0) / 1024);
  return { freeMiB: mib(of("MemAvailable")), totalMiB: mib(of("MemTotal")) };
}
