/** What the kernel does not take away with the processes of a bed: control groups and files. */
import { existsSync, globSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { disconnect } from "./network.js";
import { bedsDirectory } from "./prepared.js";
import { startTime } from "./processes.js";

export const controlGroupOf = (id: string): string => `gpuctl-bed-${id}`;
export const linkOf = (id: string): string => `gpb${id}`;

/** A folder for a bed, which says whose it is, so that others know when its owner is gone. */
export function makeFolder(id: string): string {
  const folder = join(bedsDirectory(), id);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "owner"), `${process.pid} ${startTime(process.pid) ?? ""}`);
  return folder;
}

/** Removes what beds left whose owners died before they could. */
export async function sweep(): Promise<void> {
  if (!existsSync(bedsDirectory())) return;
  for (const id of readdirSync(bedsDirectory())) {
    if (!ownerLives(join(bedsDirectory(), id))) await removeRemains(id);
  }
}

/** Removes everything of a bed whose processes have ended. */
export async function removeRemains(id: string): Promise<void> {
  await disconnect(linkOf(id));
  const groups = `/sys/fs/cgroup/{,*/}${controlGroupOf(id)}`;
  // A group can be removed when the kernel is done with its last process, and a file system when it is done with its namespace.
  for (let attempt = 0; globSync(groups).length > 0 && attempt < 100; attempt += 1) {
    for (const group of globSync(groups)) removeGroup(group);
    await wait(50);
  }
  rmSync(join(bedsDirectory(), id), { recursive: true, force: true, maxRetries: 20 });
}

function removeGroup(group: string): void {
  try {
    for (const each of readdirSync(group, { withFileTypes: true })) if (each.isDirectory()) removeGroup(join(group, each.name));
    rmdirSync(group);
  } catch {
    // Not empty yet: the next attempt sees.
  }
}

function ownerLives(folder: string): boolean {
  try {
    const [pid, started] = readFileSync(join(folder, "owner"), "utf8").split(" ");
    return startTime(Number(pid)) === started;
  } catch {
    return false;
  }
}
