import { readFileSync } from "node:fs";

/**
 * What identifies a process for ever: its number is reused, its number with its start time within one boot is not.
 * `startTime` is field 22 of /proc/<pid>/stat, in clock ticks since boot.
 */
export interface ProcessIdentity {
  pid: number;
  startTime: number;
}

/** Looks up processes of this machine. A small port, so that tests can age, end and reboot them. */
export interface ProcessTable {
  readonly bootId: string;
  /** Null when there is no such process; a zombie has ended and counts as gone. */
  startTime(pid: number): number | null;
  /** Milliseconds since boot, suspended time included: the clock of the keeper's timers. */
  bootMs(): number;
}

/** Whether exactly this process, not a later one with the same number, runs. */
export function isRunning(table: ProcessTable, identity: ProcessIdentity): boolean {
  return table.startTime(identity.pid) === identity.startTime;
}

/** The processes of this machine by /proc. */
export class LinuxProcessTable implements ProcessTable {
  #bootId: string | null = null;

  get bootId(): string {
    this.#bootId ??= readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    return this.#bootId;
  }

  startTime(pid: number): number | null {
    if (!Number.isSafeInteger(pid) || pid <= 0) return null;
    try {
      return parseStartTime(readFileSync(`/proc/${pid.toString()}/stat`, "utf8"));
    } catch {
      return null;
    }
  }

  bootMs(): number {
    return Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1000;
  }
}

/** The command's name may hold spaces and brackets, so fields are counted after the last `)`. */
export function parseStartTime(stat: string): number | null {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const state = fields[0];
  const startTime = Number(fields[19]);
  // A zombie whose other threads have not ended yet still holds its sockets and files.
  const zombie = state === "Z" && !(Number(fields[17]) > 1);
  if (state === undefined || zombie || state === "X" || !Number.isFinite(startTime)) return null;
  return startTime;
}

/** What a process calls itself, for error texts; null when it cannot be read. */
export function commandName(pid: number): string | null {
  try {
    return readFileSync(`/proc/${pid.toString()}/comm`, "utf8").trim();
  } catch {
    return null;
  }
}
