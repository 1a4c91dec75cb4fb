import { readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { fingerprintOf } from "../../../domain/fingerprint.js";
import type { Sha256 } from "../../../domain/names.js";
import type { ServiceSpec } from "../../../domain/release.js";
import type { InstanceObservation } from "../../../ports.js";
import type { InstanceFiles } from "./instance-files.js";
import { instanceLogs } from "./log-files.js";
import type { PythonEnvironments } from "./python-environment.js";
import type { StateLayout } from "./state-layout.js";

export interface PruningParts {
  layout: StateLayout;
  files: InstanceFiles;
  environments: PythonEnvironments;
  /** Wheels that something runs from, whatever the records say: a wheel is read lazily. */
  wheelsInUse: ReadonlySet<Sha256>;
  /** Locks that this gpuctl and what runs need. */
  locksInUse: ReadonlySet<Sha256>;
  instances: readonly InstanceObservation[];
  forget: (id: string) => Promise<void>;
}

export type Removed = { what: string; bytes: number };

/** Removes what no kept release names and nothing uses: wheels, ended instances with their logs, our own Python environments. */
export async function prune(parts: PruningParts, keep: readonly ServiceSpec[]): Promise<readonly Removed[]> {
  return [...(await pruneInstances(parts, keep)), ...(await pruneWheels(parts, keep)), ...(await pruneEnvironments(parts, keep))];
}

async function pruneInstances(parts: PruningParts, keep: readonly ServiceSpec[]): Promise<Removed[]> {
  const kept = new Set(keep.map(fingerprintOf));
  const ended = new Map(
    parts.instances.map((each) => [each.id, each.process.state === "exited" || each.process.state === "stopped"]),
  );
  const documents = await parts.files.list();
  const documented = new Map(documents.map((document) => [document.id, document]));
  const removed: Removed[] = [];
  for (const document of documents) {
    if (kept.has(document.fingerprint) || ended.get(document.id) === false) continue;
    if (ended.has(document.id)) await parts.forget(document.id);
    await parts.files.remove(document.id);
    documented.delete(document.id);
  }
  for (const log of await instanceLogs(parts.layout.logs)) {
    if (documented.has(log.instance) || ended.get(log.instance) === false) continue;
    const bytes = await removeLogs(parts.layout.logs, log.instance);
    removed.push({ what: `logs of ${log.instance}`, bytes });
  }
  return removed;
}

async function removeLogs(directory: string, instance: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory)) {
    if (name === `${instance}.log` || (/^\.log\.\d+$/.test(name.slice(instance.length)) && name.startsWith(instance))) {
      bytes += await removeFile(join(directory, name));
    }
  }
  return bytes;
}

async function pruneWheels({ layout, wheelsInUse }: PruningParts, keep: readonly ServiceSpec[]): Promise<Removed[]> {
  const kept = new Set([...keep.map((spec) => spec.code.wheel), ...wheelsInUse]);
  const names = await readdir(layout.wheels).catch(() => []);
  const removed: Removed[] = [];
  for (const name of names) {
    const hash = /^([0-9a-f]{64})\.whl$/.exec(name)?.[1];
    const leftover = name.endsWith(".tmp");
    if (!leftover && (hash === undefined || kept.has(hash))) continue;
    removed.push({ what: `wheel ${name.slice(0, 12)}`, bytes: await removeFile(join(layout.wheels, name)) });
  }
  return removed;
}

/** Only environments that this state directory has claimed, and only when nobody else claims them. */
async function pruneEnvironments(parts: PruningParts, keep: readonly ServiceSpec[]): Promise<Removed[]> {
  const { environments, layout, locksInUse } = parts;
  const kept = new Set([...keep.map((spec) => spec.python.lock), ...locksInUse].map((lock) => lock.slice(0, 16)));
  const removed: Removed[] = [];
  for (const { directory, lock } of await environments.all()) {
    if (kept.has(lock) || !(await environments.claimedBy(directory, layout.state))) continue;
    if (!(await environments.release(directory, layout.state))) continue;
    const bytes = await sizeOf(directory);
    // Renamed first: nobody takes a half-removed environment for a whole one.
    await rename(directory, `${directory}.removed`);
    await rm(`${directory}.removed`, { recursive: true, force: true });
    removed.push({ what: `Python environment ${lock}`, bytes });
  }
  return removed;
}

async function removeFile(path: string): Promise<number> {
  const bytes = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  await rm(path, { force: true });
  return bytes;
}

async function sizeOf(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map((entry) =>
        stat(join(entry.parentPath, entry.name)).then(
          (found) => found.size,
          () => 0,
        ),
      ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
