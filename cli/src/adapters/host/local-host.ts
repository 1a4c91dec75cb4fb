import { release } from "node:os";
import { mib } from "../../domain/units.js";
import type { EnvironmentConfig } from "../../domain/config/resolved.js";
import type { HostFacts } from "../../domain/doctor/facts.js";
import type { Executor, Finding, HostInspector } from "../../ports.js";
import { cacheHome, modelStore, stateHome, type Environment } from "../state/directories.js";
import { freeMemory } from "../targets/process/memory.js";
import { portFindings } from "../targets/process/port-findings.js";
import { inspectDisk } from "./disk-facts.js";
import { inspectDocker } from "./docker-facts.js";
import { inspectGpu } from "./gpu-facts.js";
import { inspectCpu, inspectSystem } from "./linux-facts.js";
import { inspectPython } from "./python-facts.js";
import { totalmem } from "node:os";

export interface LocalHostOptions {
  executor: Executor;
  env: Environment;
  /** Interpreter of the services' environment, or null when it is not made. */
  pythonEnvironment: () => Promise<string | null>;
  /** Pid of this environment's keeper, or null. */
  keeperPid: (config: EnvironmentConfig) => Promise<number | null>;
}

/** This machine, looked at without changing anything. Everything slow runs side by side and has a deadline. */
export class LocalHost implements HostInspector {
  readonly #options: LocalHostOptions;

  constructor(options: LocalHostOptions) {
    this.#options = options;
  }

  async inspect(signal: AbortSignal): Promise<HostFacts> {
    const { executor, env, pythonEnvironment } = this.#options;
    const [python, system, cpu, memory, gpu, docker, ...disks] = await Promise.all([
      inspectPython(executor, env, pythonEnvironment, signal),
      inspectSystem(release()),
      inspectCpu(),
      freeMemory(),
      inspectGpu(executor, signal),
      inspectDocker(executor, signal),
      inspectDisk("state", stateHome(env)),
      inspectDisk("models", modelStore(env)),
      inspectDisk("cache", cacheHome(env)),
    ]);
    return {
      node: { version: process.versions.node, executable: process.execPath },
      python,
      system,
      cpu,
      memory: { totalMiB: memory.totalMiB, availableMiB: memory.freeMiB, machineMiB: mib(Math.floor(totalmem() / 2 ** 20)) },
      disks,
      gpu,
      docker,
    };
  }

  async ports(config: EnvironmentConfig, instancePids: readonly number[]): Promise<readonly Finding[]> {
    const keeper = await this.#options.keeperPid(config);
    const ours = new Set(keeper === null ? instancePids : [...instancePids, keeper]);
    const wanted = Object.values(config.services).map(({ service, port }) => ({ service, host: config.bind, port }));
    return portFindings(wanted, ours);
  }
}
