/** What can be seen of a container's device from outside, read from `nvidia-smi` and the host's cgroups. */

/** A process that holds memory on a GPU, as the driver lists it. */
export interface ComputeApp {
  uuid: string;
  /** The host's pid. */
  pid: number;
  /** Null where the driver does not tell (`[N/A]`, WSL2). */
  usedMiB: number | null;
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
