import { homedir, userInfo } from "node:os";
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { TargetUnreachable } from "../../domain/errors.js";
import {
  configurationWithDefaults,
  expandPath,
  parseClientSettings,
  type ClientSettings,
} from "../../domain/ssh/client-settings.js";
import { ms, type Milliseconds } from "../../domain/units.js";
import type { Executor } from "../../ports.js";
import type { Environment } from "../state/directories.js";

/** What gpuctl.yaml says about one host. */
export interface SshNode {
  name: string;
  host: string;
  user?: string | undefined;
  port?: number | undefined;
  identityFile?: string | undefined;
  /** Public keys of the host as the inventory has them: no other is accepted, and no known_hosts file is asked or written. */
  hostKeys?: readonly string[] | undefined;
  /** Where they come from, for people. */
  pinnedBy?: string | undefined;
}

/** Keys of one host that are known without a known_hosts file. */
export interface PinnedKeys {
  /** Each as `ssh-ed25519 AAAA…`. */
  keys: readonly string[];
  /** Who says so: `stack prod`. */
  by: string;
}

/** What gpuctl.yaml says about how hosts are reached; the defaults are filled in. */
export interface SshOptions {
  client: "node-ssh" | "openssh";
  knownHosts: string | null;
  connectTimeout: Milliseconds;
  acceptNew: boolean;
}

/** Where the machine keeps what belongs to ssh. */
export interface SshSurroundings {
  env: Environment;
  executor: Executor;
  /** Real path of gpuctl.yaml: relative paths in it count from there. */
  projectFile: string;
  /** Configuration of ssh, the user's first. */
  configFiles: readonly string[];
}

/** How one host is to be reached, from gpuctl.yaml, the user's ssh configuration and the defaults, in this order. */
export interface HostSettings extends ClientSettings {
  /** Absolute paths; the one of gpuctl.yaml is the first. */
  identityFiles: readonly string[];
  /** The file that gpuctl.yaml names. */
  requiredIdentity: string | null;
  agent: string | null;
  /** Absolute paths; the first is written to. */
  knownHosts: readonly [string, ...string[]];
}

const defaultUser = "root";

/** The configuration files that ssh itself reads. */
export const usualConfigFiles = ["~/.ssh/config", "/etc/ssh/ssh_config"] as const;

/** Asks `ssh -G`, which knows Host, Match and Include. Throws TargetUnreachable when the configuration cannot be read. */
export async function settingsOf(
  node: SshNode,
  options: SshOptions,
  around: SshSurroundings,
  signal: AbortSignal,
): Promise<HostSettings> {
  const client = await clientSettings(node, around, signal);
  const home = realHome();
  const names = { home, localUser: userInfo().username, host: client.hostName, user: client.user };
  const own = (path: string): string => resolve(dirname(around.projectFile), expandPath(path, { ...names }));
  const required = node.identityFile === undefined ? null : own(node.identityFile);
  const listed = client.identityFiles.map((path) => resolve(home, expandPath(path, names)));
  const pinned = options.knownHosts === null ? client.userKnownHosts : [own(options.knownHosts)];
  const [first = join(home, ".ssh/known_hosts"), ...more] = pinned.filter((file) => file !== "none");
  return {
    ...client,
    identityFiles: required === null ? listed : [required, ...listed.filter((file) => file !== required)],
    requiredIdentity: required,
    agent: agentSocket(client.identityAgent, around.env, (path) => expandPath(path, names)),
    knownHosts: [first, ...more, ...client.globalKnownHosts],
  };
}

async function clientSettings(node: SshNode, around: SshSurroundings, signal: AbortSignal): Promise<ClientSettings> {
  const options = [
    ...(node.port === undefined ? [] : ["-p", String(node.port)]),
    ...(node.user === undefined ? [] : ["-l", node.user]),
  ];
  // ssh opens the file of -F by its name, which works for a pipe and not for the socket that Node gives as stdin.
  const argv: [string, ...string[]] = [
    "/bin/sh",
    "-c",
    `cat | exec ssh -G -T -F /dev/stdin "$@"`,
    "ssh",
    ...options,
    "--",
    node.host,
  ];
  const input = configurationWithDefaults(around.configFiles, defaultUser);
  const { code, stdout, stderr } = await around.executor.run({ argv, input }, { deadline: ms(10_000), signal });
  if (code === 127) return withoutSsh(node, around);
  const settings = code === 0 ? parseClientSettings(stdout) : null;
  if (settings !== null) return settings;
  throw new TargetUnreachable(`the ssh configuration for ${node.name} cannot be read`, {
    because: stderr.trim() || "ssh -G printed nothing that can be understood",
    nextSteps: [`ssh -G ${node.host}`],
  });
}

/** Without the ssh program nobody can say what a configuration means; where there is none, the defaults are known. */
function withoutSsh(node: SshNode, around: SshSurroundings): ClientSettings {
  const home = realHome();
  const [own = ""] = around.configFiles;
  const file = own.replace(/^~(?=\/)/, home);
  if (existsSync(file))
    throw new TargetUnreachable(`${file} cannot be read for ${node.name}`, {
      because: "the ssh program, which understands it, is not installed",
      nextSteps: ["apt-get install openssh-client"],
    });
  return {
    hostName: node.host,
    user: node.user ?? defaultUser,
    port: node.port ?? 22,
    identityFiles: ["id_ed25519", "id_ecdsa", "id_rsa"].map((name) => join(home, ".ssh", name)),
    identitiesOnly: false,
    identityAgent: null,
    userKnownHosts: [join(home, ".ssh/known_hosts")],
    globalKnownHosts: ["/etc/ssh/ssh_known_hosts"],
    hashKnownHosts: false,
    hostKeyAlias: null,
    proxy: null,
  };
}

/** ssh looks at the account, not at HOME. An account without an entry has only the variable. */
function realHome(): string {
  try {
    return userInfo().homedir;
  } catch {
    return homedir();
  }
}

function agentSocket(configured: string | null, env: Environment, expand: (path: string) => string): string | null {
  if (configured === "none") return null;
  if (configured === null || configured === "SSH_AUTH_SOCK") return env["SSH_AUTH_SOCK"] || null;
  return configured.startsWith("$") ? env[configured.slice(1)] || null : expand(configured);
}
