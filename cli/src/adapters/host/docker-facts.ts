import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { readDocker } from "../../domain/doctor/docker-output.js";
import type { DockerFacts } from "../../domain/doctor/facts.js";
import type { Executor } from "../../ports.js";
import { ask } from "./asking.js";

/** Docker's client and engine, and whether containers can have GPUs. */
export async function inspectDocker(executor: Executor, signal: AbortSignal): Promise<DockerFacts> {
  const version = await ask(executor, ["docker", "version", "--format", "{{json .}}"], signal);
  if (version.state === "absent") return { state: "absent" };
  if (version.state === "hangs")
    return { state: "unreachable", client: "of unknown version", detail: "docker version did not answer within 10 s" };
  const info = version.result.code === 0 ? await ask(executor, ["docker", "info", "--format", "{{json .}}"], signal) : null;
  return readDocker(version.result, info?.state === "answered" ? info.result : null, await nvidiaSpecs());
}

/** Engines before 28.3 do not list CDI devices; then the specification files are looked at. */
async function nvidiaSpecs(): Promise<string[]> {
  for (const folder of ["/etc/cdi", "/var/run/cdi"]) {
    for (const name of await readdir(folder).catch(() => [])) {
      const text = await readFile(join(folder, name), "utf8").catch(() => "");
      if (/["']?kind["']?:\s*["']?nvidia\.com\/gpu/.test(text)) return ["nvidia.com/gpu=all"];
    }
  }
  return [];
}
