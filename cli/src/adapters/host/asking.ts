import { Failed, GpuctlError } from "../../domain/errors.js";
import { ms } from "../../domain/units.js";
import type { CommandResult, Executor } from "../../ports.js";

/** A healthy tool answers in well under a second; a stuck driver never does. */
export const patience = ms(10_000);

export type Answer = { state: "answered"; result: CommandResult } | { state: "absent" } | { state: "hangs" };

/** Asks a tool of this machine something. That it is not there, or does not answer, are answers too. */
export async function ask(executor: Executor, argv: readonly [string, ...string[]], signal: AbortSignal): Promise<Answer> {
  try {
    // The tools' own words are matched, so they must not be translated.
    return { state: "answered", result: await executor.run({ argv, env: { LC_ALL: "C" } }, { deadline: patience, signal }) };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Failed) return { state: "hangs" };
    if (error instanceof GpuctlError) return { state: "absent" };
    throw error;
  }
}
