/** What a container on a host was given, as Docker knows it: not what a Compose file says. */
import type { BedHost } from "./host.js";

export interface Limits {
  /** Null where there is no limit. */
  memoryMiB: number | null;
  pids: number | null;
  restart: string;
  /** From SIGTERM to SIGKILL. */
  stopSeconds: number | null;
  log: { driver: string; options: Readonly<Record<string, string>> };
  environment: readonly string[];
}

interface Inspected {
  Config: { Env: readonly string[]; StopTimeout?: number };
  HostConfig: {
    Memory: number;
    PidsLimit: number | null;
    RestartPolicy: { Name: string };
    LogConfig: { Type: string; Config: Record<string, string> };
  };
}

export async function limitsOf(host: BedHost, container: string): Promise<Limits> {
  const [found] = JSON.parse(await host.must(["docker", "container", "inspect", container])) as Inspected[];
  if (found === undefined) throw new Error(`there is no container ${container}`);
  const { Config, HostConfig } = found;
  return {
    memoryMiB: HostConfig.Memory === 0 ? null : HostConfig.Memory / 1024 / 1024,
    pids: HostConfig.PidsLimit,
    restart: HostConfig.RestartPolicy.Name,
    stopSeconds: Config.StopTimeout ?? null,
    log: { driver: HostConfig.LogConfig.Type, options: HostConfig.LogConfig.Config },
    environment: Config.Env,
  };
}

/** All memory of a host, MiB. */
export async function memoryMiB(host: BedHost): Promise<number> {
  const text = await host.must(["cat", "/proc/meminfo"]);
  return Math.floor(Number(/^MemTotal:\s+(\d+) kB$/m.exec(text)?.[1]) / 1024);
}
