/** What can be seen of a container's device from outside, read from `nvidia-smi` and the host's cgroups. */

/** A process that holds memory on a GPU, as the driver lists it. */
export interface ComputeApp {
  uuid: string;
  /** The host's pid. */
  pid: number;
  /** Null where the driver does not tell (`[N/A]`, WSL2). */
  usedMiB: number | null;
}

/** What was seen of an instance's GPU from its node, before it was started and while it was asked. Null is what could not be asked. */
export interface DeviceSight {
  /** UUID of the GPU that the instance was given; for a MIG instance its own first, then the card's, under which drivers list it too. */
  reserved: readonly [string, ...string[]];
  /** Host pids of the container's cgroup during the probe. */
  pids: readonly number[] | null;
  /** Processes on the GPUs before the instance was started, and during the probe. */
  apps: { before: readonly ComputeApp[] | null; during: readonly ComputeApp[] | null };
  /** Memory in use on the reserved GPU before the instance was started (null for one that ran already), and during the probe, MiB. */
  used: { before: number | null; during: number | null };
  /** Other instances that were started on the same GPU in the meantime: a rise alone does not say whose it is. */
  neighbours: readonly string[];
}

/** GPUs at one moment, and whoever is in a container. */
export interface DeviceLook {
  /** Memory in use by UUID, MiB; a GPU that does not tell is missing. Null when nvidia-smi failed. */
  used: ReadonlyMap<string, number> | null;
  apps: readonly ComputeApp[] | null;
  pids: readonly number[] | null;
}

/** Reads a look: `used`, `apps` and `pids`, each with the exit status of what was asked, on a line before the answer to it. */
export function readDeviceLook(text: string): DeviceLook {
  const parts = text.split(/^(?=(?:used|apps|pids) \d+$)/m).map((part) => /^(\w+) 0\n([^]*)$/.exec(part));
  const said = (name: string): string | null => parts.find((part) => part?.[1] === name)?.[2] ?? null;
  const [used, apps, pids] = [said("used"), said("apps"), said("pids")];
  return {
    used: used === null ? null : readUsed(used),
    apps: apps === null ? null : readComputeApps(apps),
    pids: pids === null ? null : readPids(pids),
  };
}

function readUsed(stdout: string): ReadonlyMap<string, number> {
  const cells = stdout.split(/\r?\n/).map((line) => line.split(",").map((cell) => cell.trim()));
  return new Map(cells.flatMap(([uuid = "", used = ""]) => (/^\d+$/.test(used) ? [[uuid, Number(used)] as const] : [])));
}

/** What an instance's GPU looked like before and during. @param before  null for one that ran already */
export function sightOf(
  reserved: DeviceSight["reserved"],
  before: DeviceLook | null,
  during: DeviceLook,
  neighbours: readonly string[],
): DeviceSight {
  const onReserved = ({ used }: DeviceLook): number | null =>
    reserved.map((uuid) => used?.get(uuid)).find((figure) => figure !== undefined) ?? null;
  return {
    reserved,
    pids: during.pids,
    apps: { before: before?.apps ?? null, during: during.apps },
    used: { before: before === null ? null : onReserved(before), during: onReserved(during) },
    neighbours,
  };
}

/**
 * Reads the answer to `nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory --format=csv,noheader,nounits`. Lines without a pid (`[Insufficient Permissions]`, WSL2) are left out.
 */
export function readComputeApps(stdout: string): readonly ComputeApp[] {
  return stdout.split(/\r?\n/).flatMap((line) => {
    const [uuid, pid, used] = line.split(",").map((cell) => cell.trim());
    if (uuid === undefined || !/^(?:GPU|MIG)-/.test(uuid) || pid === undefined || !/^[1-9]\d*$/.test(pid)) return [];
    return [{ uuid, pid: Number(pid), usedMiB: used !== undefined && /^\d+$/.test(used) ? Number(used) : null }];
  });
}

/** Pids of a `cgroup.procs` file, or of `docker top CONTAINER -eo pid` with its heading. */
export function readPids(text: string): readonly number[] {
  const pids = text.split(/\s+/).filter((word) => /^[1-9]\d*$/.test(word));
  return [...new Set(pids.map(Number))].sort((a, b) => a - b);
}
