import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import { parseDuration } from "./domain/config/quantities.js";
import { UsageError } from "./domain/errors.js";
import type { Milliseconds } from "./domain/units.js";

/** The one service a command is limited to. Checked by the use case, which knows the project file. */
export const serviceArg = (description: string) => Args.string({ description, required: false });

/** How long a command that changes something waits for another one to finish. */
export const lockWaitFlag = () =>
  Flags.string({
    description: "Wait this long for a lease that another command holds (default: do not wait).",
    helpValue: "30s",
  });

/** Milliseconds of `--lock-wait`. */
export function lockWait(text: string | undefined): Milliseconds {
  const duration = parseDuration(text ?? "0s");
  if (duration !== null) return duration;
  throw new UsageError(`--lock-wait ${text ?? ""} is no duration`, {
    because: "a duration is a number with a unit: ms, s, m or h",
    nextSteps: ["--lock-wait 30s"],
  });
}
