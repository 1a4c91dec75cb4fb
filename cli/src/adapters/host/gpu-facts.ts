import { readdir, readFile } from "node:fs/promises";
import type { GpuFacts } from "../../domain/doctor/facts.js";
import { kernelModule } from "../../domain/doctor/linux-files.js";
import { queryArguments, readNvidiaSmi, type NvidiaSmi } from "../../domain/nvidia-smi.js";
import type { Executor } from "../../ports.js";
import { ask, patience } from "./asking.js";

/** WSL2 puts the tool beside the driver's libraries, which are not on everybody's PATH. */
const places = ["nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi"];

/** GPUs as the driver, the PCI bus and the kernel see them. */
export async function inspectGpu(executor: Executor, signal: AbortSignal): Promise<GpuFacts> {
  const [smi, pciDevices, version] = await Promise.all([
    askDriver(executor, signal),
    nvidiaOnPci(),
    readFile("/proc/driver/nvidia/version", "utf8").catch(() => ""),
  ]);
  return { smi, pciDevices, kernelModule: kernelModule(version) };
}

async function askDriver(executor: Executor, signal: AbortSignal): Promise<NvidiaSmi> {
  for (const tool of places) {
    const query = await ask(executor, [tool, ...queryArguments], signal);
    if (query.state === "absent") continue;
    if (query.state === "hangs") return { state: "hangs", seconds: patience / 1000 };
    const list = query.result.code === 0 ? await ask(executor, [tool, "-L"], signal) : null;
    return readNvidiaSmi(query.result, list?.state === "answered" ? list.result : null);
  }
  return { state: "absent" };
}

/** NVIDIA devices of class 03 (display, 3D); null where the bus cannot be read. */
async function nvidiaOnPci(): Promise<number | null> {
  const bus = "/sys/bus/pci/devices";
  const devices = await readdir(bus).catch(() => null);
  if (devices === null) return null;
  const read = (device: string, file: string): Promise<string> => readFile(`${bus}/${device}/${file}`, "utf8").catch(() => "");
  const found = await Promise.all(
    devices.map(
      async (device) => (await read(device, "vendor")).trim() === "0x10de" && (await read(device, "class")).startsWith("0x03"),
    ),
  );
  return found.filter(Boolean).length;
}
