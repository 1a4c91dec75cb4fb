import { quoteWord } from "../../domain/ssh/shell-line.js";
import { newestToken, statuses } from "./script-parts.js";

/** A lease this process holds on one host. The nonce tells it from one of the same number on a host that was installed again. */
export interface Fence {
  token: number;
  nonce: string;
}

/** Where the leases of an environment lie on its host, and the host's /proc. */
export interface FencedPlace {
  root: string;
  proc: string;
}

/** `fence LEASES PROC TOKEN NONCE`: ends the script unless this lease is the newest one, of this boot, and not given back. */
export const fencing = `${newestToken}
fence() {
  newest "$1"
  lease=$1/$(printf '%08d' "$3") holder='' taken_boot='' boot=''
  if [ -f "$lease.lease" ]; then read -r holder taken_boot _ <"$lease.lease"; fi
  read -r boot <"$2/sys/kernel/random/boot_id"
  if [ "$last" -ne "$3" ] || [ "$holder" != "$4" ]; then
    printf 'lease %s is not the newest any more, lease %s is\\n' "$3" "$last" >&2; exit ${statuses.fenced}
  elif [ "$taken_boot" != "$boot" ]; then
    printf 'lease %s was ended by a reboot\\n' "$3" >&2; exit ${statuses.fenced}
  elif [ -e "$lease.released" ]; then
    printf 'lease %s was given back\\n' "$3" >&2; exit ${statuses.fenced}
  fi
}`;

/** Exit status of a script whose guard refused: the lease was lost, and nothing after the guard was run. */
export const fencedStatus = statuses.fenced;

/**
 * Lines of POSIX sh to put before anything that changes a host: they end the script with `fencedStatus` unless the lease is still
 * the newest one there. They need the rights of whoever writes the state (root), and leave functions and variables of their own.
 */
export function guardScript(place: FencedPlace, fence: Fence): string {
  const args = [`${place.root}/leases`, place.proc, fence.token.toString(), fence.nonce].map(quoteWord);
  return `${fencing}\nfence ${args.join(" ")}\n`;
}
