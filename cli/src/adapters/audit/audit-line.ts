import type { AuditEntry } from "../../ports.js";

/** A line of the audit; one that is torn or foreign gives nothing, and what follows it still counts. */
export function entryOf(line: string): AuditEntry | null {
  try {
    const value = JSON.parse(line) as Partial<Record<keyof AuditEntry, unknown>> | null;
    if (typeof value !== "object" || value === null) return null;
    const { at, author, action, release, detail } = value;
    if (typeof at !== "string" || typeof author !== "string" || typeof action !== "string") return null;
    return {
      at,
      author,
      action,
      release: typeof release === "string" ? (release as AuditEntry["release"]) : null,
      detail: typeof detail === "string" ? detail : "",
    };
  } catch {
    return null;
  }
}
