import type { EnvironmentConfig } from "../domain/config/resolved.js";
import { host as hostSchema, shortName } from "../domain/config/schema-values.js";
import { ConfigInvalid, Failed, PreflightRefused, UsageError } from "../domain/errors.js";
import { addNode, type CannotAdd } from "../domain/host/add-node.js";
import type { HostKeys, NewNode, ShownKey, TextFiles } from "../ports/host-preparer.js";

export interface AddContext {
  config: EnvironmentConfig;
  keys: HostKeys;
  files: TextFiles;
  signal: AbortSignal;
  /** Asks a person; null where nobody is there to be asked. */
  ask: ((question: string) => Promise<boolean>) | null;
}

export interface AddResult {
  node: string;
  environment: string;
  file: string;
  /** The key that is trusted from now on; null when known_hosts had one already. */
  trusted: { type: string; fingerprint: string } | null;
  nextSteps: readonly string[];
}

/**
 * Writes a node into gpuctl.yaml once its host key is trusted: because known_hosts has it, because a person compared the fingerprint,
 * or because the fingerprint was given.
 */
export async function addHost(context: AddContext, node: NewNode, fingerprint: string | undefined): Promise<AddResult> {
  const { config, keys, files, signal } = context;
  const before = await files.read(config.projectFile);
  const after = textWith(context, node, before);
  const { shown, known, file } = await keys.look(node, signal);
  const key = await trustedKey(context, node, { shown, known, fingerprint, file, more: "" });
  if (!known) await keys.remember(node, key, signal);
  await files.replace(config.projectFile, before, after);
  return {
    node: node.name,
    environment: config.environment,
    file: config.projectFile,
    trusted: known ? null : { type: key.type, fingerprint: key.fingerprint },
    nextSteps: [`gpuctl host prepare ${node.name} -e ${config.environment}`, `gpuctl doctor -e ${config.environment}`],
  };
}

function textWith({ config }: AddContext, node: NewNode, before: string): string {
  requireNode(node);
  const { name, ...written } = node;
  const added = addNode(before, config.environment, name, written);
  if ("text" in added) return added.text;
  throw cannotAdd(added.cannot, config, name);
}

/** Throws UsageError for a name or an address that no node can have. */
export function requireNode(node: NewNode): void {
  for (const [what, read] of [
    ["name", shortName.safeParse(node.name)],
    ["host", hostSchema.safeParse(node.host)],
  ] as const) {
    if (!read.success)
      throw new UsageError(`${JSON.stringify(node[what])} cannot be a node's ${what}`, {
        because: read.error.issues[0]?.message ?? "",
      });
  }
}

function cannotAdd(cannot: CannotAdd, { environment, projectFile }: EnvironmentConfig, name: string): Error {
  switch (cannot) {
    case "name-taken":
      return new PreflightRefused(`environment ${environment} has a node ${name} already`, {
        because: "nothing is overwritten",
        nextSteps: ["choose another name", `nano ${projectFile}`],
      });
    case "no-environment":
    case "no-nodes":
      return new ConfigInvalid(`${projectFile} cannot take a node`, {
        because: `the nodes of environment ${environment} are not written out there`,
        nextSteps: [`nano ${projectFile}`],
      });
  }
}

/** What is known of a host's keys before one of them is trusted. */
interface Seen {
  shown: readonly ShownKey[];
  /** Whether they need no confirmation. */
  known: boolean;
  fingerprint: string | undefined;
  /** Where they would be known. */
  file: string;
  /** Flags of the command beside those of the node, each after a blank. */
  more: string;
}

/** The key to trust: the given one, a known one, or one that a person confirms. Throws PreflightRefused when there is none of them. */
export async function trustedKey({ ask }: Pick<AddContext, "ask">, node: NewNode, seen: Seen): Promise<ShownKey> {
  const { shown, known, fingerprint, file, more } = seen;
  const [best] = shown;
  if (best === undefined) throw new Failed(`${node.name} shows no host key`);
  const list = shown.map((key) => `${key.type} ${key.fingerprint}`);
  if (fingerprint !== undefined) {
    const given = shown.find((key) => key.fingerprint === fingerprint);
    if (given !== undefined) return given;
    throw new PreflightRefused(`${node.name} does not show the key ${fingerprint}`, {
      because: `it shows ${list.join(", ")}: another host, or somebody in between`,
      nextSteps: ["ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub   # at the console of the host"],
    });
  }
  if (known) return best;
  const compare = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub   # at the console of the host";
  if (ask === null)
    throw new PreflightRefused(`the host key of ${node.name} is not in ${file}`, {
      because: `it shows ${list.join(", ")}, and nobody is there to compare it`,
      nextSteps: [
        compare,
        `gpuctl host add ${node.name} --host ${node.host}${more} --fingerprint ${best.fingerprint}   # when it is that one`,
      ],
      data: { shown: shown.map(({ type, fingerprint: print }) => ({ type, fingerprint: print })) },
    });
  if (
    await ask(
      `${node.name} (${node.host}) shows the host key\n  ${list.join("\n  ")}\nCompare: ${compare}\nIs it right? [yes/no] `,
    )
  )
    return best;
  throw new PreflightRefused(`${node.name} was not added`, { because: "its host key was not confirmed", nextSteps: [compare] });
}
