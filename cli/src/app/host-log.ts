import { logText, readLogLine, type HostLogLine } from "../domain/host/log-line.js";
import type { Progress } from "../ports.js";

/** Takes the log of the script as it comes, and tells what of it people want to know. */
export function followLog(progress: Progress): { onLine: (line: string) => void; lines: readonly HostLogLine[] } {
  const lines: HostLogLine[] = [];
  const onLine = (text: string): void => {
    const line = readLogLine(text);
    if (line === null) return;
    lines.push(line);
    const said = logText(line);
    if (said !== null) progress.emit({ kind: line.event === "warning" ? "warning" : "step", text: said });
  };
  return { onLine, lines };
}

/** What the script said last of itself; null when it said nothing. */
export function lastSaid(lines: readonly HostLogLine[]): string | null {
  return lines.findLast(({ detail }) => detail !== undefined)?.detail ?? null;
}

/** Steps that changed something. */
export function changedSteps(lines: readonly HostLogLine[]): string[] {
  const ended = lines.filter(({ event, result }) => event === "end" && result === "done");
  return [...new Set(ended.map(({ step }) => step))].filter((step) => step !== "reboot");
}
