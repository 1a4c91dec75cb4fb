import { Failed, TargetUnreachable } from "../../domain/errors.js";
import type { Milliseconds } from "../../domain/units.js";

/** One host as it is named in messages and typed into a shell. */
export interface HostAddress {
  /** The node's name in gpuctl.yaml. */
  node: string;
  user: string;
  /** Name or address that is connected to. */
  host: string;
  /** The host as gpuctl.yaml writes it, which the user's ssh configuration may know. */
  alias: string;
  port: number;
}

/** What a person types to see for themselves what ssh says. */
export function sshCommand(address: HostAddress): string {
  const port = address.port === 22 ? "" : `-p ${address.port} `;
  return `ssh ${port}${address.user}@${address.alias} true`;
}

/** What to do about a host that does not show the key its inventory has. */
export const pinnedSteps = ({ port, host }: HostAddress): readonly string[] => [
  "find out why: a new installation of the host has a new key, and so has somebody in between",
  `ssh-keyscan -p ${port} ${host} | ssh-keygen -lf -   # from a place you trust`,
  "gpuctl infra up   # pins the new key, when it is right",
];

/** OpenSSH from 9.8 on turns an address away for 15 s to 10 minutes after failed logins: PerSourcePenalties of sshd_config(5). */
export const closedEarly =
  "no ssh server, one with too many connections, or one that turns this address away for a while after failed logins";

export const closedSteps = (address: HostAddress): readonly string[] => ["wait a minute, then try again", sshCommand(address)];

export function cannotConnect(
  address: HostAddress,
  because: string,
  nextSteps: readonly string[] = [],
  cause?: unknown,
): TargetUnreachable {
  return new TargetUnreachable(`${address.node} (${address.host}) cannot be reached`, {
    because,
    nextSteps: nextSteps.length > 0 ? nextSteps : [sshCommand(address)],
    data: { node: address.node, host: address.host, port: address.port, user: address.user },
    cause,
  });
}

/** @param doing  such as `docker ran` or `/etc/x was written` */
export function connectionLost(address: HostAddress, doing: string, cause: Error | null): TargetUnreachable {
  return new TargetUnreachable(`the connection to ${address.node} was lost while ${doing}`, {
    because: cause?.message ?? "the host closed it",
    nextSteps: ["gpuctl status", sshCommand(address)],
    data: { node: address.node, host: address.host, port: address.port, user: address.user },
    cause: cause ?? undefined,
  });
}

export function noShell(address: HostAddress, said: string): TargetUnreachable {
  return new TargetUnreachable(`${address.node} gives no shell to ${address.user}`, {
    because: said === "" ? "the command was not run and nothing was printed" : `the host printed: ${lastLines(said)}`,
    nextSteps: [sshCommand(address), `getent passwd ${address.user}   # on ${address.node}: its login shell`],
    data: { node: address.node },
  });
}

export function tooLate(what: string, node: string, deadline: Milliseconds): Failed {
  return new Failed(`${what} did not end in time on ${node}`, {
    because: `it was stopped after its deadline of ${deadline / 1000} s`,
    data: { node },
  });
}

/** The last lines of what a program said, as one. */
export function lastLines(text: string, count = 3): string {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "");
  return lines.slice(-count).join("; ");
}
