import { readdir } from "node:fs/promises";
import { Failed } from "../../domain/errors.js";
import { writeAtomic } from "./write-atomic.js";

/** Replaces a file that the user named; readable for everybody, as what it holds is no secret. Throws Failed. */
export async function writeNamed(file: string, text: string): Promise<void> {
  try {
    await writeAtomic(file, text, 0o644);
  } catch (cause) {
    throw new Failed(`${file} was not written`, {
      because: cause instanceof Error ? cause.message : String(cause),
      nextSteps: ["name a file in a folder that exists and can be written, with --output FILE"],
      cause,
    });
  }
}

/** Names in a folder; none when there is no such folder. */
export const filesIn = (folder: string): Promise<readonly string[]> => readdir(folder).catch(() => []);
