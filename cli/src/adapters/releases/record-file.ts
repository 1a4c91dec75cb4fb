import { Failed } from "../../domain/errors.js";
import type { ReleaseId } from "../../domain/names.js";
import type { ReleaseRecord } from "../../domain/release.js";

/** Name of a record's file; the first group is its number. */
export const recordName = /^r(\d+)-[0-9a-f]{8}\.json$/;

/** An id becomes a file name: anything but an id is a bug, or an attempt to leave the directory. */
export function safeId(id: ReleaseId): ReleaseId {
  if (/^r\d+-[0-9a-f]{8}$/.test(id)) return id;
  throw new Failed(`${id} is not a release id`, { nextSteps: ["gpuctl releases"] });
}

/** The checksum tells that gpuctl wrote it; this tells that this gpuctl understands it and that it sits under its own name. */
export function asRecord(body: unknown, name: string): { ok: true; record: ReleaseRecord } | { ok: false; because: string } {
  const record = body as Partial<ReleaseRecord> | null;
  if (typeof record !== "object" || record === null) return { ok: false, because: "it is not a release record" };
  if ((record.schemaVersion as number | undefined) !== 1) {
    return { ok: false, because: `it has schemaVersion ${String(record.schemaVersion)}, and this gpuctl reads 1` };
  }
  if (`${String(record.id)}.json` !== name) return { ok: false, because: `it is the record of ${String(record.id)}` };
  if (record.number !== Number(recordName.exec(name)?.[1]))
    return { ok: false, because: "its number is not the number of its id" };
  if (typeof record.services !== "object" || !["candidate", "switched", "good", "failed"].includes(String(record.state))) {
    return { ok: false, because: "it is incomplete" };
  }
  return { ok: true, record: record as ReleaseRecord };
}
