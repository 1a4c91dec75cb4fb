import { availableParallelism, cpus, release, totalmem, type } from "node:os";
import { mib } from "../../domain/units.js";
import type { LoadHost } from "../../ports.js";

/** Facts of the machine that makes the load, for a report's header. */
export function loadHost(): LoadHost {
  return {
    cpu: cpus()[0]?.model.trim().replace(/\s+/g, " ") ?? "unknown",
    cores: availableParallelism(),
    memoryMiB: mib(Math.round(totalmem() / 2 ** 20)),
    node: process.versions.node,
    os: `${type()} ${release()}`,
  };
}
