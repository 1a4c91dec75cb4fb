import * as Flags from "@oclif/core/flags";
import type { PrepareRequest } from "./app/host-prepare.js";
import { parseDuration } from "./domain/config/quantities.js";
import { UsageError } from "./domain/errors.js";
import type { Milliseconds } from "./domain/units.js";

/** Flags of the commands that run the preparation script. */
export const preparationFlags = {
  gpu: Flags.string({
    description:
      "Whether to install NVIDIA's driver: auto (where a GPU is), require, none (default: require where a service does, else auto).",
    options: ["auto", "require", "none"],
  }),
  "deploy-user": Flags.string({
    description: "Account to deploy as (default: the node's user, unless that is root).",
    helpValue: "NAME",
  }),
  "authorized-key": Flags.string({
    description: "File with public keys that may log in as that account.",
    multiple: true,
    helpValue: "FILE",
  }),
  "app-address": Flags.string({
    description: "Network that may reach the service ports (default: allow of the environment).",
    multiple: true,
    helpValue: "CIDR",
  }),
  "ssh-address": Flags.string({
    description: "Network that may reach SSH (default: SSH is left as it is).",
    multiple: true,
    helpValue: "CIDR",
  }),
  reboot: Flags.boolean({ description: "Restart the host when the driver needs it.", default: true, allowNo: true }),
  patience: Flags.string({ description: "How long the host may take to come back.", default: "15m", helpValue: "DURATION" }),
  "docker-repository": Flags.string({ description: "Mirror of Docker's repository.", helpValue: "URL" }),
  "toolkit-repository": Flags.string({ description: "Mirror of the container toolkit's repository.", helpValue: "URL" }),
  "driver-repository": Flags.string({ description: "Mirror of NVIDIA's driver repository for Debian.", helpValue: "URL" }),
};

interface Given {
  gpu: string | undefined;
  "deploy-user": string | undefined;
  "authorized-key": string[] | undefined;
  "app-address": string[] | undefined;
  "ssh-address": string[] | undefined;
  reboot: boolean;
  patience: string;
  "docker-repository": string | undefined;
  "toolkit-repository": string | undefined;
  "driver-repository": string | undefined;
}

/** What the flags ask for. Throws UsageError for a duration that is none. */
export function preparation(flags: Given): Omit<PrepareRequest, "node" | "mode" | "confirm"> {
  const { "docker-repository": docker, "toolkit-repository": toolkit, "driver-repository": driver } = flags;
  return {
    gpu: flags.gpu as PrepareRequest["gpu"],
    deployUser: flags["deploy-user"],
    authorizedKeys: flags["authorized-key"] ?? [],
    appAddresses: flags["app-address"] ?? [],
    sshAddresses: flags["ssh-address"] ?? [],
    reboot: flags.reboot,
    patience: patience(flags.patience),
    repositories: { ...(docker && { docker }), ...(toolkit && { toolkit }), ...(driver && { driver }) },
  };
}

function patience(text: string): Milliseconds {
  const read = parseDuration(text);
  if (read === null) throw new UsageError(`--patience ${text} is no duration`, { nextSteps: ["--patience 15m"] });
  return read;
}
