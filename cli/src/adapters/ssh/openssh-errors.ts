import type { GpuctlError } from "../../domain/errors.js";
import type { OpensshOptions } from "./openssh-master.js";
import { cannotConnect, closedEarly, closedSteps, lastLines, noShell, pinnedSteps, sshCommand } from "./unreachable.js";

/** What the system's ssh printed while it connected, as an error. @param error  carries what the host's shell printed */
export function whyOpensshFailed(error: unknown, said: string, options: OpensshOptions): GpuctlError {
  const { address, acceptNew, pinned } = options;
  const heard = (error as Error).message;
  const why = said.trim();
  if (/exec: .*ssh.*not found/.test(why))
    return cannotConnect(address, "the ssh program is not installed", ["apt-get install openssh-client"], error);
  if (/IDENTIFICATION HAS CHANGED|Host key verification failed|host key is known|REVOKED/i.test(why))
    return pinned === null
      ? cannotConnect(address, hostKeyReason(why), hostKeySteps(why, acceptNew, sshCommand(address)), error)
      : cannotConnect(address, `it does not show a key that ${pinned.by} pins`, pinnedSteps(address), error);
  if (/Permission denied|Too many authentication failures/.test(why)) {
    const steps = ["ssh-add -l   # keys of the agent", `ssh-copy-id -p ${address.port} ${address.user}@${address.alias}`];
    return cannotConnect(address, `it accepts none of the keys that were offered: ${lastLines(why)}`, steps, error);
  }
  if (why === "") return noShell(address, heard);
  if (why.includes("kex_exchange_identification"))
    return cannotConnect(address, `${lastLines(why)}: ${closedEarly}`, closedSteps(address), error);
  return cannotConnect(address, lastLines(why), [sshCommand(address)], error);
}

/** The lines of ssh's box that say something, in one sentence. */
function hostKeyReason(why: string): string {
  const telling = why
    .split(/\r?\n/)
    .filter((line) => /fingerprint|SHA256:|Offending|is known|REVOKED|verification failed/i.test(line))
    .map((line) => line.trim().replace(/\.$/, ""));
  const changed = why.includes("HAS CHANGED") ? ["its host key has changed"] : [];
  return [...changed, ...telling].join("; ");
}

function hostKeySteps(why: string, acceptNew: boolean, command: string): readonly string[] {
  if (why.includes("HAS CHANGED"))
    return ["find out why: a new installation of the host has a new key, and so has somebody in between", command];
  const byFlag = "or gpuctl doctor --accept-new-host-keys, to trust and remember a host that is seen for the first time";
  return acceptNew ? [command] : [`${command.replace(/ true$/, "")}   # compare the fingerprint, answer yes`, byFlag];
}
