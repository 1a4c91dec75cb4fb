import { Failed, UsageError } from "../domain/errors.js";
import type { HostKeys, NewNode, ShownKey } from "../ports/host-preparer.js";
import type { Pulumi } from "../ports/infra.js";
import { requireNode, trustedKey, type AddContext } from "./host-add.js";
import { isNewStack, requireConfigured, typed, valueOf } from "./infra-stack.js";

export interface AddToStackContext extends Pick<AddContext, "ask" | "signal"> {
  keys: Pick<HostKeys, "look">;
  pulumi: Pulumi;
}

export interface AddedToStack {
  node: string;
  stack: string;
  /** The key that is pinned from now on. */
  trusted: Pick<ShownKey, "type" | "fingerprint">;
  nextSteps: readonly string[];
}

/** Keys that the connections of Pulumi's provider ask for. */
const usable = /^(?:ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521))$/;

/**
 * Writes an adopted node into a stack's configuration, with the host key that a person compared or whose fingerprint was given. What
 * known_hosts has is no confirmation here: it may be of another type than the key that is pinned.
 */
export async function addToStack(
  { keys, pulumi, ask, signal }: AddToStackContext,
  node: NewNode,
  stack: string,
  fingerprint: string | undefined,
): Promise<AddedToStack> {
  const { name, host, user, port, identityFile } = node;
  requireNode(node);
  if (identityFile !== undefined)
    throw new UsageError("a stack has no files of keys", {
      because: "Pulumi logs in with ssh-agent, or with the secret gpuctl:sshPrivateKey",
      nextSteps: ["leave --identity-file out", "ssh-add FILE"],
    });
  const project = await pulumi.project();
  requireConfigured(project, stack);
  const { shown } = await keys.look(node, signal);
  const offered = shown.filter(({ type }) => usable.test(type));
  if (offered.length === 0 && shown.length > 0)
    throw new Failed(`${name} has no host key that Pulumi's connections could ask for`, {
      because: `it shows ${shown.map(({ type }) => type).join(", ")}`,
      nextSteps: ["ssh-keygen -A   # on the host, then restart its sshd"],
    });
  const seen = { shown: offered, known: false, fingerprint, file: `the configuration of the stack ${stack}` };
  const { type, key, fingerprint: print } = await trustedKey({ ask }, node, { ...seen, more: ` --stack ${stack}` });
  const values = { kind: "adopted", host, hostKey: `${type} ${key}`, ...(user && { user }), ...(port && { port: String(port) }) };
  const paths = Object.fromEntries(Object.entries(values).map(([field, value]) => [`gpuctl:nodes.${name}.${field}`, value]));
  const again = `gpuctl host add ${name} --host ${host} --stack ${stack}`;
  let outcome = await pulumi.configure(stack, paths);
  if (isNewStack(outcome)) {
    await valueOf(pulumi, await pulumi.create(stack), stack, again);
    outcome = await pulumi.configure(stack, paths);
  }
  await valueOf(pulumi, outcome, stack, again);
  return { node: name, stack, trusted: { type, fingerprint: print }, nextSteps: nextSteps(name, stack) };
}

const nextSteps = (name: string, stack: string): string[] => [
  `its cards, where it has some: gpu: { count: 1 } below gpuctl:nodes, ${name}, in Pulumi.${stack}.yaml`,
  typed("preview", stack),
];
