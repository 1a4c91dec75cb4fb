import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { Failed } from "../../domain/errors.js";

/** Writes a result as JSON to a file that the user named; `file` counts from `cwd`. */
export async function writeJsonReport(cwd: string, file: string, report: unknown): Promise<void> {
  const path = resolve(cwd, file);
  try {
    await writeFile(path, `${JSON.stringify(report, null, 2)}\n`);
  } catch (cause) {
    throw new Failed(`the report was not written to ${path}`, {
      because: cause instanceof Error ? cause.message : String(cause),
      nextSteps: ["name a file in a directory that exists and can be written, with --out FILE"],
      cause,
    });
  }
}
