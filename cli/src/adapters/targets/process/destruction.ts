import { readFileSync } from "node:fs";
import { readdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { Failed } from "../../../domain/errors.js";
import { ms } from "../../../domain/units.js";
import type { Clock, InstanceObservation } from "../../../ports.js";
import { isRunning, type ProcessIdentity, type ProcessTable } from "../../state/process-identity.js";
import { readKeeperIdentity } from "./desired-file.js";
import type { StateLayout } from "./state-layout.js";

export interface DestructionParts {
  layout: StateLayout;
  processes: ProcessTable;
  clock: Clock;
}

const politeMs = 12_000;
const killedMs = 5_000;
const pollMs = ms(30);

/** The processes of instances that can be told apart from every other: by their launch document, not by number alone. */
export function instanceProcesses(
  parts: DestructionParts,
  instances: readonly InstanceObservation[],
): readonly ProcessIdentity[] {
  const { layout, processes } = parts;
  const found: ProcessIdentity[] = [];
  for (const { id, process } of instances) {
    if (process.state !== "running") continue;
    const startTime = processes.startTime(process.pid);
    if (startTime !== null && environOf(process.pid).includes(`GPUCTL_INSTANCE_FILE=${layout.launchDocument(id)}`)) {
      found.push({ pid: process.pid, startTime });
    }
  }
  return found;
}

/** The keeper's process, by what it wrote about itself; it may hang. */
export async function keeperProcess({ layout, processes }: DestructionParts): Promise<readonly ProcessIdentity[]> {
  const keeper = await readKeeperIdentity(layout.keeperFile);
  return keeper !== null && keeper.bootId === processes.bootId && isRunning(processes, keeper) ? [keeper] : [];
}

/** Ends processes that are still there: SIGTERM, then SIGKILL; the identity is looked at before each signal. */
export async function endProcesses(
  parts: DestructionParts,
  identities: readonly ProcessIdentity[],
  grace: "ask" | "wait",
): Promise<void> {
  if (grace === "ask") signalAll(parts.processes, identities, "SIGTERM");
  if (await allGone(parts, identities, politeMs)) return;
  signalAll(parts.processes, identities, "SIGKILL");
  if (await allGone(parts, identities, killedMs)) return;
  const left = identities.filter((identity) => isRunning(parts.processes, identity)).map(({ pid }) => pid.toString());
  throw new Failed("some processes of this environment do not end", {
    because: `pid ${left.join(", ")} survived SIGKILL, which happens while a device or a disk does not answer`,
    nextSteps: [`ps -o pid,stat,wchan,args -p ${left.join(",")}`, "gpuctl destroy, again"],
  });
}

/** Removes sockets, launch documents and the keeper's memory. Releases, logs, audit and the index stay. */
export async function removeRuntimeFiles({ layout }: DestructionParts): Promise<void> {
  for (const name of await readdir(layout.run).catch(() => [])) {
    if (/\.(sock|ctl|http)$/.test(name)) await rm(join(layout.run, name), { force: true });
  }
  await rmdir(layout.run).catch(() => undefined);
  await rm(layout.instances, { recursive: true, force: true });
  await rm(layout.desiredFile, { force: true });
  await rm(layout.keeperFile, { force: true });
}

function signalAll(processes: ProcessTable, identities: readonly ProcessIdentity[], signal: "SIGTERM" | "SIGKILL"): void {
  for (const identity of identities) {
    if (!isRunning(processes, identity)) continue;
    try {
      process.kill(identity.pid, signal);
    } catch {
      // It ended between the look and the signal.
    }
  }
}

async function allGone(
  { processes, clock }: DestructionParts,
  identities: readonly ProcessIdentity[],
  within: number,
): Promise<boolean> {
  const began = clock.monotonic();
  while (identities.some((identity) => isRunning(processes, identity))) {
    if (clock.monotonic() - began > within) return false;
    await clock.sleep(pollMs);
  }
  return true;
}

function environOf(pid: number): readonly string[] {
  try {
    return readFileSync(`/proc/${pid.toString()}/environ`, "utf8").split("\0");
  } catch {
    return [];
  }
}
