import type { Duplex, Readable } from "node:stream";
import { NodeSSH } from "node-ssh";
import type { Client, ClientChannel } from "ssh2";
import { forLoginShell } from "../../domain/ssh/shell-line.js";
import type { Milliseconds } from "../../domain/units.js";
import { HostKeyCheck, type HostKeyPolicy } from "./host-key-check.js";
import type { HostShell, ScriptEvents, TunnelEnd } from "./host-shell.js";
import type { Identities } from "./identities.js";
import { whyNotConnected } from "./connect-errors.js";
import { unlessAborted } from "./time-limit.js";
import { cannotConnect, type HostAddress } from "./unreachable.js";

/** How long a closed connection may take to say goodbye. */
const goodbyeMs = 500;

export interface NodeSshOptions {
  address: HostAddress;
  hostKeys: HostKeyPolicy;
  identities: Identities;
  connectTimeout: Milliseconds;
  /** A host that has not answered so many times in a row, so far apart, is gone. */
  keepalive: { every: Milliseconds; times: number };
}

/**
 * Connects with node-ssh, which by itself accepts every host key, asks for nothing while idle, and lets a late error of the
 * connection end the process. Throws TargetUnreachable saying what was wrong and what to type.
 */
export async function connectNodeSsh(options: NodeSshOptions, signal: AbortSignal): Promise<HostShell> {
  const { address, identities, keepalive, connectTimeout } = options;
  const check = await HostKeyCheck.prepare(options.hostKeys, address);
  const ssh = new NodeSSH();
  signal.throwIfAborted();
  const connecting = ssh.connect({
    host: address.host,
    port: address.port,
    username: address.user,
    authHandler: [...identities.methods],
    hostVerifier: check.verify,
    algorithms: { serverHostKey: [...check.algorithms] },
    readyTimeout: connectTimeout,
    keepaliveInterval: keepalive.every,
    keepaliveCountMax: keepalive.times,
    agentForward: false,
  });
  // It exists from the first synchronous step of `connect` on; after `ready` node-ssh no longer listens for its errors.
  const client = ssh.connection;
  const shell = client === null ? null : new NodeSshShell(client, address, keepalive);
  try {
    await unlessAborted(connecting, signal);
    if (shell === null || client === null) throw new Error("node-ssh made no connection");
    await check.remember();
    // Commands are small packets that wait for each other's answers: with Nagle's algorithm each waits for a delayed acknowledgement too.
    client.setNoDelay(true);
    return shell;
  } catch (error) {
    client?.destroy();
    connecting.catch(() => undefined);
    signal.throwIfAborted();
    throw check.refusal ?? whyNotConnected(error, address, identities, connectTimeout);
  }
}

class NodeSshShell implements HostShell {
  readonly status = "native";
  readonly #client: Client;
  readonly #address: HostAddress;
  readonly #running = new Set<ScriptEvents>();
  #lost = false;
  #lastError: Error | null = null;

  constructor(client: Client, address: HostAddress, keepalive: NodeSshOptions["keepalive"]) {
    this.#client = client;
    this.#address = address;
    client.on("error", (error: Error & { level?: string }) => {
      const seconds = (keepalive.every * (keepalive.times + 1)) / 1000;
      this.#lastError = error.level === "client-timeout" ? new Error(`it gave no sign of life for ${seconds} s`) : error;
    });
    client.on("close", () => {
      this.#lost = true;
      for (const events of [...this.#running]) this.#end(events);
    });
  }

  get lost(): boolean {
    return this.#lost;
  }

  async start(script: string, input: Readable | null, events: ScriptEvents, signal: AbortSignal): Promise<() => void> {
    const channel = await this.#open<ClientChannel>(
      (done) => this.#client.exec(forLoginShell(script), done),
      (opened) => this.#listen(opened, events),
      signal,
    );
    if (input === null) channel.end();
    else input.pipe(channel);
    return () => {
      this.#running.delete(events);
      input?.unpipe(channel);
      channel.close();
    };
  }

  /** At once, in the callback: a short command's whole life may have arrived in the packet that says it was started. */
  #listen(channel: ClientChannel, events: ScriptEvents): void {
    this.#running.add(events);
    channel.on("error", () => undefined);
    channel.on("data", (chunk: Buffer) => this.#running.has(events) && events.stdout(chunk));
    channel.stderr.on("data", (chunk: Buffer) => this.#running.has(events) && events.stderr(chunk));
    channel.on("exit", (code: number | null, name?: string) => {
      if (this.#running.has(events)) events.exited({ code, signal: code === null ? (name ?? null) : null });
    });
    channel.on("close", () => {
      // It comes when stdout has ended, which says nothing of stderr.
      if (channel.stderr.readableEnded || channel.stderr.destroyed || this.#lost) this.#end(events);
      else channel.stderr.once("end", () => this.#end(events));
    });
  }

  forward(to: TunnelEnd, signal: AbortSignal): Promise<Duplex> {
    return this.#open<Duplex>(
      (done) => {
        if ("port" in to) this.#client.forwardOut("127.0.0.1", 0, "127.0.0.1", to.port, done);
        else this.#client.openssh_forwardOutStreamLocal(to.socket, done);
      },
      ignore,
      signal,
    );
  }

  async close(): Promise<void> {
    if (this.#lost) return;
    await new Promise<void>((resolve) => {
      const giveUp = setTimeout(() => this.#client.destroy(), goodbyeMs);
      this.#client.once("close", () => {
        clearTimeout(giveUp);
        resolve();
      });
      this.#client.end();
    });
  }

  #end(events: ScriptEvents): void {
    if (this.#running.delete(events)) events.closed(this.#lastError);
  }

  /** A channel, or TargetUnreachable. One that opens after nobody waits any more is closed again. */
  async #open<Channel extends Duplex>(
    ask: (done: (error: Error | undefined, channel: Channel) => void) => void,
    opened: (channel: Channel) => void,
    signal: AbortSignal,
  ): Promise<Channel> {
    const opening = new Promise<Channel>((resolve, reject) => {
      ask((error, channel) => {
        if (error !== undefined) reject(error);
        else {
          if (!signal.aborted) opened(channel);
          resolve(channel);
        }
      });
    });
    try {
      return await unlessAborted(opening, signal);
    } catch (error) {
      opening.then((channel) => channel.destroy(), ignore);
      signal.throwIfAborted();
      // ssh2 answers what was asked before it tells that the connection has ended.
      await new Promise(setImmediate);
      if (this.#lost) throw this.#lastError ?? new Error("the host closed the connection");
      throw cannotConnect(this.#address, (error as Error).message.replace(/^\(SSH\) /, ""), [], error);
    }
  }
}

const ignore = (): void => undefined;
