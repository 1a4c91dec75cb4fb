import * as Flags from "@oclif/core/flags";
import type { PrepareRequest } from "./app/host-prepare.js";
import { parseDuration } from "./domain/config/quantities.js";
import { UsageError } from "./domain/errors.js";
import type { Milliseconds } from "./domain/units.js";

/** Flags of the commands that run the preparation script. */
export const preparationFlags = {
  gpu: Flags.string({
    description:
      "Whether to install NVIDIA's driver: auto (where a GPU is), require, none (default: require where a service does, else as before, else auto).",
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
    description: "Network that may reach the service ports, or any (default: allow of the environment, else as before).",
    multiple: true,
    helpValue: "CIDR",
  }),
  "ssh-address": Flags.string({
    description: "Network that may reach SSH; any takes back what was named before (default: as before).",
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
    appAddresses: networks("app", flags["app-address"]),
    sshAddresses: networks("ssh", flags["ssh-address"]),
    reboot: flags.reboot,
    patience: patience(flags.patience),
    repositories: { ...(docker && { docker }), ...(toolkit && { toolkit }), ...(driver && { driver }) },
  };
}

/** Null when none were named: then the host keeps what it has. */
function networks(of: "app" | "ssh", given: readonly string[] = []): readonly string[] | null {
  if (given.length === 0) return null;
  if (!given.includes("any")) return given;
  if (given.length === 1) return [];
  throw new UsageError(`--${of}-address any stands alone`, { nextSteps: [`--${of}-address any`] });
}

function patience(text: string): Milliseconds {
  const read = parseDuration(text);
  if (read === null) throw new UsageError(`--patience ${text} is no duration`, { nextSteps: ["--patience 15m"] });
  return read;
}
