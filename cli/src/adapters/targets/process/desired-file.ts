import { readFile } from "node:fs/promises";
import type { InstanceId, ServiceName } from "../../../domain/names.js";

/** What the keeper wrote down about an instance. */
export interface DesiredInstance {
  id: InstanceId;
  desired: "started" | "open" | "closed" | "stopped";
  pid: number | null;
  startTime: number | null;
  restarts: number;
  /** On the boot clock. */
  stopAtMs: number | null;
  lastExit: { code: number | null; signal: string | number | null } | null;
  /** Its process ended with a boot of the machine, and nobody asked for another since. */
  stoppedByReboot?: boolean;
}

export interface Desired {
  bootId: string;
  listeners: readonly { service: ServiceName; host: string; port: number }[];
  instances: readonly DesiredInstance[];
}

const nothing: Desired = { bootId: "", listeners: [], instances: [] };

/** Reads `keeper/desired.json`; a missing or unreadable one asks for nothing, because read commands must always answer. */
export async function readDesired(file: string): Promise<Desired> {
  try {
    const value = JSON.parse(await readFile(file, "utf8")) as Partial<Desired> | null;
    if (typeof value?.bootId !== "string") return nothing;
    const listeners = Array.isArray(value.listeners) ? (value.listeners as Desired["listeners"]) : [];
    const instances = Array.isArray(value.instances) ? (value.instances as DesiredInstance[]) : [];
    return { bootId: value.bootId, listeners, instances: instances.filter((each) => typeof each.id === "string") };
  } catch {
    return nothing;
  }
}

/** The keeper's identity from `keeper/keeper.json`, or null. */
export async function readKeeperIdentity(file: string): Promise<{ pid: number; startTime: number; bootId: string } | null> {
  try {
    const value = JSON.parse(await readFile(file, "utf8")) as Partial<Record<string, unknown>>;
    const { pid, startTime, bootId } = value;
    if (typeof pid !== "number" || typeof startTime !== "number" || typeof bootId !== "string") return null;
    return { pid, startTime, bootId };
  } catch {
    return null;
  }
}
