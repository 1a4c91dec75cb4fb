import * as Flags from "@oclif/core/flags";

/** The stack that a command is about. */
export const stackFlag = () =>
  Flags.string({
    char: "s",
    description: "Stack of Pulumi (default: the one of the environment's inventory, else the environment's name).",
    helpValue: "NAME",
  });
