import type { IndexAddResult } from "../index-add.js";

/** One line of what changed, one of what was left out. */
export function indexAddText(result: IndexAddResult): string {
  const count = (value: number, unit: string): string => `${value.toLocaleString("en-US")} ${unit}${value === 1 ? "" : "s"}`;
  const rate = `${result.chunksPerSecond.toFixed(1)} chunks/s`;
  const lines = [
    `${count(result.files, "file")}, ${count(result.chunks, "chunk")} in namespace ${result.namespace} (${result.seconds.toFixed(1)} s, ${rate})`,
    `  ${String(result.added)} added, ${String(result.updated)} updated, ${String(result.unchanged)} unchanged, ${String(result.deleted)} deleted`,
  ];
  if (result.filesGone > 0) lines.push(`Deleted what the index had of ${count(result.filesGone, "file")} no longer on the disk.`);
  if (result.skipped.length > 0) lines.push(`${count(result.skipped.length, "problem")}: see the warnings above`);
  if (result.files === 0)
    lines.push("No documents found: Markdown (.md), text (.txt, .rst, .adoc) and JSON lines (.jsonl) are read.");
  else lines.push('Ask it something: gpuctl query "..."');
  return lines.join("\n");
}
