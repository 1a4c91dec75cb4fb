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

/** The nodes that a command is limited to. */
export const hostsFlag = (description: string) => Flags.string({ description, helpValue: "a,b" });

/** Trust in hosts that are seen for the first time: by this flag alone, never by a file that somebody else wrote. */
export const acceptNewFlag = {
  "accept-new-host-keys": Flags.boolean({
    description: "Trust and remember the key of a host seen for the first time; one that changed is always refused.",
  }),
};

/** How many nodes get their traffic moved at once. */
export const parallelFlag = () =>
  Flags.integer({ description: "Hosts whose traffic is moved at the same time (default: one).", min: 1, helpValue: "N" });

/** `--hosts` and `--parallel` as the wiring takes them. */
export function nodeChoice(flags: { hosts?: string | undefined; parallel?: number | undefined }): {
  hosts?: readonly string[];
  parallel?: number;
} {
  const { hosts, parallel } = flags;
  return { ...(hosts === undefined ? {} : { hosts: namesIn(hosts) }), ...(parallel === undefined ? {} : { parallel }) };
}

function namesIn(text: string): readonly string[] {
  const names = text
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  if (names.length > 0) return names;
  throw new UsageError("--hosts names no host", { nextSteps: ["--hosts gpu-1,gpu-2"] });
}

/** Milliseconds of `--lock-wait`. */
export function lockWait(text: string | undefined): Milliseconds {
  const duration = parseDuration(text ?? "0s");
  if (duration !== null) return duration;
  throw new UsageError(`--lock-wait ${text ?? ""} is no duration`, {
    because: "a duration is a number with a unit: ms, s, m or h",
    nextSteps: ["--lock-wait 30s"],
  });
}

/** Milliseconds of `--every`, the time between two looks. */
export function every(text: string): Milliseconds {
  const found = parseDuration(text);
  if (found !== null && found > 0) return found;
  throw new UsageError(`--every ${text} is no time between two looks`, {
    because: "it is a number with a unit: ms, s, m or h",
    nextSteps: ["--every 5s"],
  });
}
