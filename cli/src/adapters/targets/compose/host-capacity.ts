import { Failed } from "../../../domain/errors.js";
import { queryArguments, readNvidiaSmi } from "../../../domain/nvidia-smi.js";
import { mib } from "../../../domain/units.js";
import type { Capacity } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";

/** Memory that a candidate can use on a host: of the GPUs that services are given there, else the available RAM. */
export async function hostCapacity(commands: HostCommands, gpus: readonly string[]): Promise<Capacity> {
  return gpus.length === 0 ? memoryOf(commands) : gpuMemory(commands, gpus);
}

/** Of several cards the tightest counts: what fits there fits everywhere. */
async function gpuMemory(commands: HostCommands, wanted: readonly string[]): Promise<Capacity> {
  const said = readNvidiaSmi(await commands.attempt({ argv: ["nvidia-smi", ...queryArguments] }), null);
  const gpus = said.state === "gpus" ? said.gpus.filter(({ uuid }) => wanted.some((name) => name.endsWith(uuid))) : [];
  const known = gpus.flatMap(({ freeMiB, totalMiB }) => (freeMiB === null || totalMiB === null ? [] : [{ freeMiB, totalMiB }]));
  const [tightest] = known.toSorted((a, b) => a.freeMiB - b.freeMiB);
  if (tightest === undefined)
    throw new Failed(`the free memory of the GPU on ${commands.node} is not known`, {
      because: said.state === "gpus" ? `nvidia-smi does not list ${wanted.join(", ")}` : `nvidia-smi: ${said.state}`,
      nextSteps: [`nvidia-smi   # on ${commands.node}`, "gpuctl doctor"],
    });
  return { device: "cuda", freeMiB: mib(tightest.freeMiB), totalMiB: mib(tightest.totalMiB) };
}

async function memoryOf(commands: HostCommands): Promise<Capacity> {
  const text = await commands.must({ argv: ["cat", "/proc/meminfo"] }, "the memory could not be looked at");
  const of = (name: string): number => Math.floor(Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0) / 1024);
  return { device: "cpu", freeMiB: mib(of("MemAvailable")), totalMiB: mib(of("MemTotal")) };
}
