import type { ReleaseDiff } from "../../domain/diff.js";
import type { AuditReport } from "../audit.js";
import type { LockStatus } from "../lock-status.js";
import type { ReleasesReport } from "../releases.js";
import { blocks, section, table } from "./table.js";

/** The kept releases, newest first, for people. */
export function releasesText(report: ReleasesReport): string {
  if (report.releases.length === 0 && report.damaged.length === 0) return `Environment ${report.environment}: no releases yet.`;
  const rows = report.releases.map((row) => [
    row.current ? `* ${row.id}` : `  ${row.id}`,
    row.state,
    row.readiness ?? "-",
    row.expected ?? "-",
    row.createdAt,
    row.author,
    row.failure ?? (row.rollbackOf === null ? "" : `back to ${row.rollbackOf}`),
  ]);
  return blocks(
    table(["  release", "state", "rollback", "until the switch", "created", "author", "note"], rows),
    section(
      "Not trusted",
      report.damaged.map(({ file, because }) => `${file}: ${because}`),
    ),
  );
}

/** What differs between two releases, for people. */
export function diffText(report: ReleaseDiff): string {
  const lines = report.services.flatMap(({ service, kind, changes }) => {
    if (kind === "changed") return changes.map((change) => `${service}: ${change}`);
    return kind === "same" ? [] : [`${service}: ${kind}`];
  });
  return lines.length === 0 ? `${report.from} and ${report.to} run the same.` : section(`${report.from} -> ${report.to}`, lines);
}

/** The last actions, for people. */
export function auditText(report: AuditReport): string {
  if (report.entries.length === 0) return `Environment ${report.environment}: nothing was done yet.`;
  const rows = report.entries.map(({ at, author, action, release, detail }) => [at, author, action, release ?? "-", detail]);
  return table(["time", "author", "action", "release", "detail"], rows);
}

/** Who holds the lease, for people. */
export function lockText({ environment, holder }: LockStatus): string {
  if (holder === null) return `Environment ${environment}: the lease is free.`;
  const { command, owner, pid, since, token, state } = holder;
  return `Environment ${environment}: ${command} of ${owner} (pid ${pid}) holds the lease since ${since}, token ${token}, ${state}.`;
}
