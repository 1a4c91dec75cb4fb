import type { AuditLog, LeaseStore, ReleaseStore } from "../../../cli/src/ports.js";
import type { FakeProcessTable } from "../../fakes/fake-process-table.js";
import type { SteppingClock } from "../../fakes/stepping-clock.js";

/** One command at work on an environment: its process on this machine, and what it sees of the state. */
export interface Party {
  leases: LeaseStore;
  releases: ReleaseStore;
  audit: AuditLog;
}

/** Where the state of one environment lies, and the time that passes there. */
export interface StateWorld {
  clock: SteppingClock;
  /** Processes of this machine. */
  processes: FakeProcessTable;
  party(pid: number): Party;
  /** A file of the state by its path below the environment's directory, on every host there is. */
  files(path: string): readonly string[];
  /** Seconds pass where the state lies. */
  pass(seconds: number): void;
  /** The machine the state lies on boots. */
  reboot(): void;
}

export const never = new AbortController().signal;
