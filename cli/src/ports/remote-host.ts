import type { Milliseconds } from "../domain/units.js";
import type { Command, CommandResult, ExecuteOptions } from "../ports.js";

/** Options of one exchange of a file with a host. */
export interface TransferOptions {
  deadline: Milliseconds;
  signal?: AbortSignal;
  /** Bytes that have arrived so far, counting those of an earlier attempt that were kept. */
  onBytes?: (done: number) => void;
}

/** A way to one TCP port or unix socket as the host itself sees it, over a port of this machine's loopback. */
export interface Tunnel {
  /** Base address for plain HTTP, such as `http://127.0.0.1:40123`. */
  readonly base: string;
  close(): Promise<void>;
}

/**
 * One host commands run on: reached by SSH, or this machine (`host: local`). Everything throws TargetUnreachable when the host
 * cannot be reached or the connection is lost, naming the host and what to type next; Failed past the deadline; and the signal's
 * reason when aborted. A command that ended on a lost connection may have run: callers ask the host again, they never assume.
 */
export interface RemoteHost {
  /** The node's name in gpuctl.yaml. */
  readonly name: string;
  /**
   * Runs one command to its end; argv is quoted for the host's shell, `env` and `cwd` hold on the host, `input` goes to stdin.
   * The exit status is the verdict, 127 for a program that is not there; output on stderr alone is no failure. With the system's
   * ssh, which does not pass signals on, a status of 128 + n counts as ended by signal n. Aborted or past its deadline, the command
   * and what it started are ended on the host, politely and then for good, as far as the host still answers. When the connection
   * is lost a command sees its input end early: one that must not act on a part of it has to check that it got all.
   */
  run(command: Command, options: ExecuteOptions): Promise<CommandResult>;
  /** The file's bytes, at most 64 MiB, or null when it does not exist. */
  readFile(path: string, options: TransferOptions): Promise<Uint8Array | null>;
  /** Replaces a file durably: temporary file beside it with the mode from the start, fsync, rename, fsync of the directory. */
  writeFile(path: string, content: string | Uint8Array, mode: number, options: TransferOptions): Promise<void>;
  /**
   * Copies a file of this machine, streaming; what an earlier attempt left is continued when its beginning is the same, and the
   * whole is verified against `sha256` before it gets its name.
   */
  sendFile(file: { local: string; remote: string; mode: number; sha256: string }, options: TransferOptions): Promise<void>;
  /**
   * Opens a tunnel to `127.0.0.1:port` or a unix socket of the host; whether anybody listens there shows when it is used.
   * Everybody on this machine can use it while it is open, so it is kept for short.
   */
  tunnel(to: { port: number } | { socket: string }, options: { deadline: Milliseconds; signal?: AbortSignal }): Promise<Tunnel>;
  /** Ends the connection and what runs over it; a later call makes a new one. */
  close(): Promise<void>;
}

/** Gives one connected host for each node; connections are shared and limited. */
export interface HostConnector {
  /** Throws TargetUnreachable naming what to check: address, key, host key. */
  connect(node: string, signal: AbortSignal): Promise<RemoteHost>;
  /**
   * The same, and everything is done there as root: commands, files, and tunnels to sockets. Where the host says that the account is
   * another, that is by `sudo -n`. Throws Failed where it cannot become root without being asked for a password.
   */
  connectAsRoot(node: string, signal: AbortSignal): Promise<RemoteHost>;
  close(): Promise<void>;
}
