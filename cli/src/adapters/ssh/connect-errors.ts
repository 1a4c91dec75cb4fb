import { GpuctlError } from "../../domain/errors.js";
import type { Milliseconds } from "../../domain/units.js";
import { errorCode } from "../state/storage-failure.js";
import type { Identities } from "./identities.js";
import { cannotConnect, closedEarly, closedSteps, sshCommand, type HostAddress } from "./unreachable.js";

/** An error of node-ssh or ssh2 while connecting, in words a person can act on. */
export function whyNotConnected(
  error: unknown,
  address: HostAddress,
  identities: Identities,
  connectTimeout: Milliseconds,
): GpuctlError {
  if (error instanceof GpuctlError) return error;
  const { level, message } = error as Error & { level?: string };
  if (level === "client-authentication" || level === "agent") return refusedKeys(address, identities, message, error);
  if (level === "client-timeout") {
    const because = `it did not answer within ${connectTimeout / 1000} s`;
    return cannotConnect(address, because, [sshCommand(address), "or give it longer: ssh: { connectTimeout: 30s }"], error);
  }
  const known = networkReasons[errorCode(error)];
  if (errorCode(error) === "ECONNRESET" || /before handshake|No response from server/.test(message))
    return cannotConnect(address, `it broke the connection off: ${closedEarly}`, closedSteps(address), error);
  if (known !== undefined) return cannotConnect(address, known(address), [sshCommand(address)], error);
  if (message.startsWith("Handshake failed")) {
    const because = `${message}: it speaks no algorithm that is both safe and known to node-ssh`;
    return cannotConnect(address, because, ["set ssh: { client: openssh } for this environment in gpuctl.yaml"], error);
  }
  return cannotConnect(address, message, [], error);
}

function refusedKeys(address: HostAddress, identities: Identities, message: string, cause: unknown): GpuctlError {
  const keys = identities.methods.some(({ type }) => type !== "none");
  const refused = keys ? `it accepts none of the keys that were offered for ${address.user}` : `there is no key to offer`;
  const because = [message.startsWith("All configured") ? refused : message, ...identities.notes].join("; ");
  const locked = identities.notes.some((note) => note.includes("passphrase"));
  const copy = address.port === 22 ? "" : `-p ${address.port} `;
  return cannotConnect(
    address,
    because,
    [
      ...(locked ? ["ssh-add   # with ssh-agent running: keys with a passphrase come from there"] : []),
      `ssh-copy-id ${copy}${address.user}@${address.alias}`,
      "or name a key in gpuctl.yaml: nodes: { NAME: { identityFile: PATH } }",
    ],
    cause,
  );
}

const networkReasons: Readonly<Record<string, (address: HostAddress) => string>> = {
  ECONNREFUSED: ({ port }) => `nothing listens on port ${port}: no ssh server, another port, or a firewall that refuses`,
  ENOTFOUND: ({ host }) => `no address is known for the name ${host}`,
  EAI_AGAIN: ({ host }) => `the name servers did not answer for ${host}`,
  ETIMEDOUT: () => "it did not answer: it is off, or a firewall drops the packets",
  EHOSTUNREACH: () => "there is no route to it",
  ENETUNREACH: () => "this machine has no route to its network",
};
