import { readFile } from "node:fs/promises";
import ssh2, { type AnyAuthMethod, type ParsedKey } from "ssh2";
import { errorCode } from "../state/storage-failure.js";
import { AgentWithKeys, keysOfAgent } from "./agent-keys.js";

/** Which keys to try. The order is ssh's: those of files that the agent holds, the agent's others, those of plain files. */
export interface IdentityRequest {
  user: string;
  /** Files, the one of gpuctl.yaml first. */
  files: readonly string[];
  /** A file that was asked for by name: its absence is an error, not a reason to try the next. */
  required: string | null;
  /** Only keys of `files`, also from the agent. */
  only: boolean;
  /** Socket of the agent, or null. */
  agent: string | null;
}

export interface Identities {
  methods: readonly AnyAuthMethod[];
  /** Why keys could not be used, for the message when no other was accepted. */
  notes: readonly string[];
}

type KeyFile =
  | { kind: "key"; key: ParsedKey }
  /** Unreadable for us, but perhaps in the agent: by its public half, when there is a `.pub`. */
  | { kind: "locked"; why: string; public: Buffer | null }
  | { kind: "absent" };

/** Collects the ways to prove who we are. Throws Error, in words, when a key that was asked for cannot be used. */
export async function findIdentities(request: IdentityRequest): Promise<Identities> {
  const { agent } = request;
  const held = agent === null ? [] : await keysOfAgent(agent);
  const files = await Promise.all(request.files.map(async (file) => ({ file, found: await readKeyFile(file) })));
  const missing = files.find(({ file, found }) => file === request.required && found.kind === "absent");
  if (missing !== undefined) throw new Error(`there is no key file ${missing.file}`);
  const notes = files.flatMap(({ file, found }) =>
    found.kind === "locked" && !held.some((key) => isSame(found, key)) ? [`${file} ${found.why}`] : [],
  );
  return { methods: inOrder(request, files, held), notes };
}

interface FoundFile {
  file: string;
  found: KeyFile;
}

function inOrder(request: IdentityRequest, files: readonly FoundFile[], held: readonly ParsedKey[]): AnyAuthMethod[] {
  const { user: username, agent, required, only } = request;
  const named = held.filter((key) => files.some(({ found }) => isSame(found, key)));
  const others = only ? [] : held.filter((key) => !named.includes(key));
  const fromAgent = (keys: readonly ParsedKey[]): AnyAuthMethod[] =>
    agent === null || keys.length === 0 ? [] : [{ type: "agent", username, agent: new AgentWithKeys(agent, keys) }];
  const fromFiles = (wanted: (file: string) => boolean): AnyAuthMethod[] =>
    files.flatMap(({ file, found }): AnyAuthMethod[] =>
      wanted(file) && found.kind === "key" && !named.some((key) => isSame(found, key))
        ? [{ type: "publickey", username, key: found.key }]
        : [],
    );
  return [
    { type: "none", username },
    ...fromFiles((file) => file === required),
    ...fromAgent(named),
    ...fromAgent(others),
    ...fromFiles((file) => file !== required),
  ];
}

function isSame(file: KeyFile, key: ParsedKey): boolean {
  if (file.kind === "key") return file.key.getPublicSSH().equals(key.getPublicSSH());
  return file.kind === "locked" && file.public?.equals(key.getPublicSSH()) === true;
}

async function readKeyFile(file: string): Promise<KeyFile> {
  const text = await textOf(file);
  if (text === null) return { kind: "absent" };
  const key = ssh2.utils.parseKey(text);
  if (!(key instanceof Error)) return { kind: "key", key };
  const half = await textOf(`${file}.pub`);
  const parsed = half === null ? null : ssh2.utils.parseKey(half);
  const publicHalf = parsed === null || parsed instanceof Error ? null : parsed.getPublicSSH();
  const why = /encrypted/i.test(key.message)
    ? "has a passphrase and its key is not in an agent"
    : "is of a kind that only the system's ssh can use";
  return { kind: "locked", why, public: publicHalf };
}

async function textOf(file: string): Promise<string | null> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return null;
    throw new Error(`the key file ${file} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}
