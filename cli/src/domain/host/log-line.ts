import { z } from "zod";

const logLine = z.object({
  step: z.string(),
  event: z.enum(["start", "end", "warning"]),
  result: z.enum(["done", "unchanged", "failed", "skipped"]).optional(),
  detail: z.string().optional(),
});

/** One line of the log of the script that prepares hosts. */
export type HostLogLine = z.infer<typeof logLine>;

/** A line of the script's log; null for a line that is none. */
export function readLogLine(text: string): HostLogLine | null {
  if (!text.startsWith("{")) return null;
  try {
    const read = logLine.safeParse(JSON.parse(text));
    return read.success ? read.data : null;
  } catch {
    return null;
  }
}

/** The line for people; null where there is nothing to say: a step that begins, or one that left everything as it was. */
export function logText({ step, event, result, detail }: HostLogLine): string | null {
  if (event !== "end") return detail === undefined ? null : `${step}: ${detail}`;
  if (result === "unchanged" || result === "skipped") return null;
  return `${step}: ${result ?? "ended"}${detail === undefined ? "" : `, ${detail}`}`;
}
