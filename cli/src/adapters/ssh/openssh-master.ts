import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { execa } from "execa";
import type { Milliseconds } from "../../domain/units.js";
import type { Environment } from "../state/directories.js";
import type { PinnedKeys } from "./host-settings.js";
import { whyOpensshFailed } from "./openssh-errors.js";
import { unlessAborted } from "./time-limit.js";
import type { HostAddress } from "./unreachable.js";

/**
 * A socket's path may have 104 bytes on some systems, its final zero among them. ssh first binds to the path and a dot with 16
 * more characters, and tunnels lie beside it.
 */
const longestSocketPath = 103 - 17;
/** What the far end prints when the connection stands and its shell works. */
const readyWord = "gpuctl-ready";

export interface OpensshOptions {
  address: HostAddress;
  /** The file of gpuctl.yaml, or null for what ssh would take. */
  identityFile: string | null;
  /** In place of the user's files, or null. */
  knownHosts: string | null;
  acceptNew: boolean;
  /** The only keys that are accepted; null for what the files say. */
  pinned: PinnedKeys | null;
  connectTimeout: Milliseconds;
  keepalive: { every: Milliseconds; times: number };
  /** In place of the user's and the system's configuration, or null. */
  configFile: string | null;
  env: Environment;
}

/** The process of ssh that holds one connection. */
export interface Master {
  readonly ended: boolean;
  readonly env: Record<string, string>;
  /** What it printed last. */
  said(): string;
  /** Waits for its end, and no longer than this. */
  endsWithin(time: Milliseconds): Promise<void>;
  /** Arguments of a client, up to the script. */
  clientArgs(): readonly string[];
  /** Arguments that ask something of the master. */
  controlArgs(what: "forward" | "exit", more?: readonly string[]): readonly string[];
  /** A path in the folder that only this connection uses. */
  pathOf(name: string): string;
  close(): Promise<void>;
}

/** Starts it, and returns when the connection stands. Throws TargetUnreachable. */
export async function startMaster(options: OpensshOptions, signal: AbortSignal): Promise<Master> {
  signal.throwIfAborted();
  const folder = await privateFolder();
  if (options.pinned !== null) await writeFile(join(folder, pinnedFile), pinnedLines(options.pinned), { mode: 0o600 });
  const master = new MasterProcess(folder, options);
  try {
    await unlessAborted(master.ready, signal);
    return master;
  } catch (error) {
    await master.close();
    signal.throwIfAborted();
    throw whyOpensshFailed(error, master.said(), options);
  }
}

/** The pinned keys as a known_hosts file of this connection alone, under a name that no host can have. */
const pinnedFile = "known_hosts";
const pinnedName = "gpuctl-pinned";
const pinnedLines = ({ keys }: PinnedKeys): string => keys.map((key) => `${pinnedName} ${key}\n`).join("");

async function privateFolder(): Promise<string> {
  const longest = (place: string): number => Buffer.byteLength(join(place, "gpuctl-XXXXXX", "m"));
  const place = longest(tmpdir()) <= longestSocketPath ? tmpdir() : "/tmp";
  const folder = await mkdtemp(join(place, "gpuctl-"));
  await chmod(folder, 0o700);
  return folder;
}

class MasterProcess implements Master {
  readonly env: Record<string, string>;
  readonly ready: Promise<void>;
  readonly #folder: string;
  readonly #address: HostAddress;
  readonly #process: ReturnType<typeof startSsh>;
  readonly #over: Promise<void>;
  #ended = false;
  #said = "";

  constructor(folder: string, options: OpensshOptions) {
    this.#folder = folder;
    this.#address = options.address;
    this.env = definedOnly(options.env);
    this.#process = startSsh(masterArgs(this.pathOf("m"), options), this.env);
    this.#process.stderr.on("data", (chunk: Buffer) => {
      this.#said = (this.#said + chunk.toString()).slice(-4000);
    });
    this.#process.stdin.on("error", () => undefined);
    this.#over = this.#process.then((result) => {
      this.#ended = true;
      if (result.exitCode === undefined && result.signal === undefined) this.#said = result.shortMessage ?? "";
    });
    this.ready = this.#untilReady();
    this.ready.catch(() => undefined);
  }

  get ended(): boolean {
    return this.#ended;
  }

  said(): string {
    return this.#said;
  }

  async endsWithin(time: Milliseconds): Promise<void> {
    const enough = new AbortController();
    await Promise.race([this.#over, wait(time, undefined, { signal: enough.signal }).catch(() => undefined)]);
    enough.abort();
  }

  clientArgs(): readonly string[] {
    const { user, host } = this.#address;
    // Without a master the client would make a connection of its own, with settings of its own: this ends it instead.
    const noOther = ["-o", "ControlMaster=no", "-o", "ProxyCommand=false"];
    return ["-F", "none", "-S", this.pathOf("m"), ...noOther, ...quiet, "-T", "-l", user, "--", host];
  }

  controlArgs(what: "forward" | "exit", more: readonly string[] = []): readonly string[] {
    const { user, host } = this.#address;
    return ["-F", "none", "-S", this.pathOf("m"), ...quiet, "-O", what, ...more, "-l", user, "--", host];
  }

  pathOf(name: string): string {
    return join(this.#folder, name);
  }

  async close(): Promise<void> {
    if (!this.#ended) {
      const asked = { stdin: "ignore", reject: false, timeout: 2000, env: this.env, extendEnv: false } as const;
      const exit = execa("ssh", this.controlArgs("exit"), asked);
      this.#process.stdin.end();
      await exit;
      const kill = setTimeout(() => this.#process.kill("SIGKILL"), 1000);
      this.#process.kill("SIGTERM");
      await this.#over;
      clearTimeout(kill);
    }
    await rm(this.#folder, { recursive: true, force: true });
  }

  #untilReady(): Promise<void> {
    return new Promise((resolve, reject) => {
      let heard = "";
      this.#process.stdout.on("data", (chunk: Buffer) => {
        heard = (heard + chunk.toString()).slice(-4000);
        if (heard.includes(readyWord)) resolve();
      });
      void this.#over.then(() => reject(new Error(heard.trim())));
    });
  }
}

const quiet = ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes"];

/**
 * The pipe to it ends when this process does, however that dies. ssh itself would then stay as long as one of its clients waits
 * for a silent command, so a shell beside it, which has the same number as ssh has after `exec`, listens to the pipe and ends it.
 */
const withItsOwner = `exec 3<&0; { read -r _ <&3; kill $$; } >/dev/null 2>&1 & exec ssh "$@" <&3`;

function startSsh(args: readonly string[], env: Record<string, string>) {
  const options = { stdin: "pipe", buffer: false, reject: false, env, extendEnv: false } as const;
  return execa("/bin/sh", ["-c", withItsOwner, "sh", ...args], options);
}

function masterArgs(socket: string, options: OpensshOptions): readonly string[] {
  const { address, identityFile, acceptNew, connectTimeout, keepalive, configFile } = options;
  const settings: Readonly<Record<string, string | number>> = {
    ControlMaster: "yes",
    ControlPath: socket,
    ControlPersist: "no",
    StrictHostKeyChecking: acceptNew ? "accept-new" : "yes",
    ConnectTimeout: Math.max(1, Math.ceil(connectTimeout / 1000)),
    ServerAliveInterval: Math.max(1, Math.ceil(keepalive.every / 1000)),
    ServerAliveCountMax: keepalive.times,
    ForwardAgent: "no",
    ForwardX11: "no",
    // Forwardings and commands of the user's configuration are for their terminal.
    ClearAllForwardings: "yes",
    PermitLocalCommand: "no",
    RemoteCommand: "none",
    ...whoseKeys(socket, options),
  };
  return [
    ...(configFile === null ? [] : ["-F", configFile]),
    ...quiet,
    ...Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]),
    ...(identityFile === null ? [] : ["-i", identityFile.replaceAll("%", "%%")]),
    ...["-T", "-l", address.user, "-p", String(address.port), "--", address.alias],
    `echo ${readyWord}; exec cat >/dev/null`,
  ];
}

/** Where ssh looks for the key of the host. */
function whoseKeys(socket: string, { knownHosts, pinned }: OpensshOptions): Readonly<Record<string, string>> {
  const quoted = (path: string): string => `"${path.replaceAll("%", "%%")}"`;
  if (pinned === null) return knownHosts === null ? {} : { UserKnownHostsFile: quoted(knownHosts) };
  return {
    UserKnownHostsFile: quoted(join(dirname(socket), pinnedFile)),
    GlobalKnownHostsFile: "/dev/null",
    HostKeyAlias: pinnedName,
    KnownHostsCommand: "none",
    VerifyHostKeyDNS: "no",
    UpdateHostKeys: "no",
  };
}

function definedOnly(env: Environment): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
}
