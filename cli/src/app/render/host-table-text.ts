import type { HostRow } from "../../domain/host-table.js";
import { table } from "./table.js";

/** What serves where after a change, a line for each host under a heading; nothing where there is one host at most. */
export function hostLines(rows: readonly HostRow[]): readonly string[] {
  if (rows.length < 2) return [];
  const cells = rows.map(({ node, before, now, detail }) => [node, before ?? "-", now ?? "-", detail]);
  return table(["host", "before", "now", "state"], cells).split("\n");
}
