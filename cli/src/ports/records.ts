/** What a state store keeps of an environment: releases, leases and the audit. */
import type { ReleaseId, Sha256 } from "../domain/names.js";
import type { ReleaseRecord } from "../domain/release.js";
import type { Milliseconds } from "../domain/units.js";
import type { Lease } from "./target-driver.js";

export interface StoredReleases {
  /** By number, oldest first. */
  records: readonly ReleaseRecord[];
  /** Files that do not verify: reported, never trusted. */
  damaged: readonly { file: string; because: string }[];
  /** Where every node keeps a copy: how that of each stands against those of all. */
  copies?: readonly RecordCopies[];
}

export type RecordCopies =
  | { host: string; state: "whole" }
  /** It misses records, or has older or other ones. */
  | { host: string; state: "behind"; lacks: readonly ReleaseId[]; differs: readonly ReleaseId[] }
  /** Others keep records and it keeps none: it is new, or was installed again. */
  | { host: string; state: "blank" }
  | { host: string; state: "unreachable"; because: string };

export interface ReleaseStore {
  list(): Promise<StoredReleases>;
  /** Writes a new record with its secrets beside it (0600), atomically and durably. */
  create(record: ReleaseRecord, secrets: Readonly<Record<string, Readonly<Record<string, string>>>>): Promise<void>;
  /** Replaces the record of the same id, atomically. */
  update(record: ReleaseRecord): Promise<void>;
  /** Secret values of a kept release, by service and name. */
  secrets(id: ReleaseId): Promise<Readonly<Record<string, Readonly<Record<string, string>>>>>;
  remove(id: ReleaseId): Promise<void>;
  /** HMAC-SHA256 of a secret under this environment's own key. */
  hmac(value: string): Promise<Sha256>;
  /** Where every node keeps a copy: gives each what it lacks, under the lease. Returns what was done, a line each. */
  complete?(): Promise<readonly string[]>;
}

export interface LeaseHolder {
  token: number;
  owner: string;
  pid: number;
  command: string;
  since: string;
  /** `live`: the process exists. `gone`: same boot, process ended. `expired`: no heartbeat for 30 s. */
  state: "live" | "gone" | "expired" | "released";
}

export interface LeaseStore {
  /** Waits up to `wait` for the lease; throws PreflightRefused naming the holder. Takes over from a holder that is gone, with a line in the audit. */
  acquire(command: string, wait: Milliseconds, signal: AbortSignal): Promise<Lease>;
  holder(): Promise<LeaseHolder | null>;
  /** Breaks a lease whose holder is not live; with `force` any. */
  break(force: boolean): Promise<LeaseHolder | null>;
}

export interface AuditEntry {
  at: string;
  author: string;
  action: string;
  release: ReleaseId | null;
  detail: string;
}

export interface AuditLog {
  append(entry: Omit<AuditEntry, "at" | "author">): Promise<void>;
  read(last: number): Promise<readonly AuditEntry[]>;
}
