import type { ReleaseId } from "../../domain/names.js";
import type { ReleaseRecord, ReleaseState } from "../../domain/release.js";
import { canonicalJson, sha256 } from "../../domain/canonical.js";
import { asRecord } from "../releases/record-file.js";
import type { RecordCopies } from "../../ports.js";
import { seal, unseal } from "../releases/checksummed.js";

/** A record as hosts keep it: of two copies the one with the higher revision is newer. Creating gives 1, every update one more. */
export interface Versioned {
  revision: number;
  record: ReleaseRecord;
}

/** What one host keeps. */
export interface HostRecords {
  host: string;
  copies: readonly Versioned[];
  damaged: readonly { file: string; because: string }[];
}

/** `{"checksum","body":{"record","revision"}}` */
export const sealVersion = ({ revision, record }: Versioned): string => seal({ revision, record });

/** Reads a copy; one that was edited by hand, torn or put under another name is told, never trusted. */
export function readVersion(text: string, name: string): { ok: true; copy: Versioned } | { ok: false; because: string } {
  const found = unseal(text);
  if (!found.ok) return found;
  const body = found.body as Partial<Versioned> | null;
  const revision = typeof body === "object" ? body?.revision : undefined;
  if (!Number.isSafeInteger(revision) || Number(revision) < 1) return { ok: false, because: "it has no revision" };
  const read = asRecord(body?.record, name);
  return read.ok ? { ok: true, copy: { revision: Number(revision), record: read.record } } : read;
}

const weight: Readonly<Record<ReleaseState, number>> = { candidate: 0, switched: 1, failed: 2, good: 3 };

/**
 * The newer of two copies. Two different ones of the same revision were written while the hosts could not all be reached: then the
 * one that got further counts, so that what serves somewhere is not forgotten, and the rest is decided alike by everybody.
 */
export function newer(a: Versioned, b: Versioned): Versioned {
  const order = a.revision - b.revision || weight[a.record.state] - weight[b.record.state];
  if (order !== 0) return order > 0 ? a : b;
  return hashOf(a) >= hashOf(b) ? a : b;
}

/** The newest copy of every release over all hosts, by number. */
export function mergeCopies(hosts: readonly HostRecords[]): readonly Versioned[] {
  const merged = new Map<ReleaseId, Versioned>();
  for (const copy of hosts.flatMap(({ copies }) => copies)) {
    const known = merged.get(copy.record.id);
    merged.set(copy.record.id, known === undefined ? copy : newer(known, copy));
  }
  return [...merged.values()].sort((a, b) => a.record.number - b.record.number || (a.record.id < b.record.id ? -1 : 1));
}

/** What each host is missing of the merged records. */
export function compareCopies(hosts: readonly HostRecords[], merged: readonly Versioned[]): readonly RecordCopies[] {
  return hosts.map(({ host, copies, damaged }) => {
    if (copies.length + damaged.length === 0 && merged.length > 0) return { host, state: "blank" };
    const own = new Map(copies.map((copy) => [copy.record.id, copy]));
    const lacks: ReleaseId[] = [];
    const differs: ReleaseId[] = [];
    for (const copy of merged) {
      const present = own.get(copy.record.id);
      if (present === undefined) lacks.push(copy.record.id);
      else if (hashOf(present) !== hashOf(copy)) differs.push(copy.record.id);
    }
    return lacks.length + differs.length === 0 ? { host, state: "whole" } : { host, state: "behind", lacks, differs };
  });
}

const hashOf = (copy: Versioned): string => sha256(canonicalJson(copy));
