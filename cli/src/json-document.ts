import type { ErrorReport } from "./error-report.js";
import type { ProgressEvent } from "./ports.js";

export type Outcome = { ok: true; result: unknown } | { ok: false; error: ErrorReport };

export interface Talk {
  warnings: readonly string[];
  /** The phases of a deploy; left out where there are none. */
  events?: readonly ProgressEvent[];
}

/** The one document of `--json`, as text. `compact` keeps it on one line for commands whose output is a line a record. */
export function jsonDocument(outcome: Outcome, talk: Talk = { warnings: [] }, compact = false): string {
  const { warnings, events = [] } = talk;
  const document = { schemaVersion: 1, ...outcome, warnings, ...(events.length > 0 ? { events } : {}) };
  return `${JSON.stringify(document, null, compact ? 0 : 2)}\n`;
}

/** Whether `--json` stands before any `--`; known even when the rest of the command line does not parse. */
export function asksForJson(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return (end === -1 ? argv : argv.slice(0, end)).includes("--json");
}
