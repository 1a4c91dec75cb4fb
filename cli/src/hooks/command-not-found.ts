import type { Hook } from "@oclif/core/hooks";
import { UsageError } from "../domain/errors.js";
import { unknownCommand } from "../unknown-command.js";

/** oclif's own plugin asks "did you mean" and runs the guess on Enter; ours only names it. The error is printed by main. */
const hook: Hook.CommandNotFound = function (options) {
  if (options.id.startsWith("-")) return Promise.reject(unknownFlag(options.id));
  return Promise.reject(unknownCommand(options.id.split(":"), options.config.commandIDs));
};

export default hook;

function unknownFlag(flag: string): UsageError {
  return new UsageError(`gpuctl has no flag ${flag} of its own`, {
    because: "only --json, --config, -e/--environment, --quiet and --no-color may stand before the command",
    nextSteps: ["gpuctl help"],
  });
}
