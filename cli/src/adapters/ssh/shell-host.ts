import { Readable } from "node:stream";
import { Failed } from "../../domain/errors.js";
import { shellLine } from "../../domain/ssh/shell-line.js";
import type { Command, CommandResult, ExecuteOptions, RemoteHost, TransferOptions, Tunnel } from "../../ports.js";
import type { Milliseconds } from "../../domain/units.js";
import { LineSplitter } from "../exec/line-splitter.js";
import { readRemoteFile, sendRemoteFile, writeRemoteFile, type Exchange, type FileToSend } from "./file-exchange.js";
import type { HostShell, TunnelEnd, Verdict } from "./host-shell.js";
import { openTunnel } from "./loopback-tunnel.js";
import { rootShell } from "./root-shell.js";
import { runScript, type Script } from "./script-run.js";
import { Slots } from "./slots.js";
import { unlessAborted, withLimit, type Limit } from "./time-limit.js";
import { tooLate, type HostAddress } from "./unreachable.js";

/** sshd allows 10 sessions on a connection unless told otherwise (MaxSessions); two are left for ending what runs. */
const maxScripts = 8;
const maxOutputBytes = 64 * 1024 * 1024;

/** A host behind either SSH transport. A connection that was lost is made anew by the next call, never by the one that lost it. */
export class ShellHost implements RemoteHost {
  readonly name: string;
  readonly #address: HostAddress;
  readonly #connect: (signal: AbortSignal) => Promise<HostShell>;
  readonly #slots: Slots;
  #closing = new AbortController();
  #shell: Promise<HostShell> | null = null;
  #root: ShellHost | null = null;

  /** @param slots  of the connection, where another host shares it */
  constructor(address: HostAddress, connect: (signal: AbortSignal) => Promise<HostShell>, slots = new Slots(maxScripts)) {
    this.name = address.node;
    this.#address = address;
    this.#connect = connect;
    this.#slots = slots;
  }

  /** Makes sure that there is a connection. */
  async ensureConnected(signal: AbortSignal): Promise<void> {
    await this.#connected(signal);
  }

  /** The same host over the same connection, with everything done as root. */
  asRoot(): ShellHost {
    const rise = async (signal: AbortSignal): Promise<HostShell> =>
      rootShell(await this.#connected(signal), this.#address, this.#slots, signal);
    this.#root ??= new ShellHost(this.#address, rise, this.#slots);
    return this.#root;
  }

  run(command: Command, options: ExecuteOptions): Promise<CommandResult> {
    const [program] = command.argv;
    return this.#within(program, options, async (limit) => {
      const output = new CollectedOutput(options, () => {
        limit.stop(new Failed(`${program} was stopped on ${this.name}`, { because: "it wrote more than 64 MiB of output" }));
      });
      const verdict = await this.#exchange(
        {
          text: lineOf(command),
          input: command.input === undefined ? null : Readable.from([Buffer.from(command.input)]),
          onStdout: (chunk) => output.take("stdout", chunk),
          onStderr: (chunk) => output.take("stderr", chunk),
          doing: `${program} ran`,
        },
        limit.signal,
      );
      return { ...verdict, ...output.end() };
    });
  }

  readFile(path: string, options: TransferOptions): Promise<Uint8Array | null> {
    return this.#within(`reading ${path}`, options, (limit) => readRemoteFile(this.#exchangeOf(limit), path, options));
  }

  writeFile(path: string, content: string | Uint8Array, mode: number, options: TransferOptions): Promise<void> {
    const file = { path, content, mode };
    return this.#within(`writing ${path}`, options, (limit) => writeRemoteFile(this.#exchangeOf(limit), file, options));
  }

  sendFile(file: FileToSend, options: TransferOptions): Promise<void> {
    const what = `sending ${file.remote}`;
    return this.#within(what, options, (limit) => sendRemoteFile(this.#exchangeOf(limit), file, options));
  }

  tunnel(to: TunnelEnd, options: { deadline: Milliseconds; signal?: AbortSignal }): Promise<Tunnel> {
    return this.#within("opening a tunnel", options, async (limit) => {
      await this.#connected(limit.signal);
      return openTunnel(async (signal) => (await this.#connected(signal)).forward(to, signal), limit.signal);
    });
  }

  async close(): Promise<void> {
    this.#closing.abort(new Failed(`the connection to ${this.name} was closed`));
    this.#closing = new AbortController();
    const shell = await this.#shell?.catch(() => null);
    this.#shell = null;
    await shell?.close();
  }

  #within<Value>(
    what: string,
    options: { deadline: Milliseconds; signal?: AbortSignal },
    work: (limit: Limit) => Promise<Value>,
  ): Promise<Value> {
    return withLimit(options, () => tooLate(what, this.name, options.deadline), work);
  }

  #exchangeOf(limit: Limit): Exchange {
    return { host: this.name, run: (script) => this.#exchange(script, limit.signal), stop: (reason) => limit.stop(reason) };
  }

  async #exchange(script: Script, signal: AbortSignal): Promise<Verdict> {
    const giveBack = await this.#slots.take(signal);
    try {
      return await runScript(await this.#connected(signal), this.#address, script, signal);
    } finally {
      giveBack();
      script.input?.destroy();
    }
  }

  /** The connection there is, or a new one when it was lost; everybody who finds it lost waits for the same new one. */
  async #connected(signal: AbortSignal): Promise<HostShell> {
    const attempt = this.#shell ?? this.#begin();
    const shell = await unlessAborted(attempt, signal);
    if (!shell.lost) return shell;
    if (this.#shell === attempt) {
      this.#shell = null;
      void shell.close();
    }
    return unlessAborted(this.#shell ?? this.#begin(), signal);
  }

  /** One attempt for all who wait; none of them ends it, as the others still want it. It has a deadline of its own. */
  #begin(): Promise<HostShell> {
    const attempt = this.#connect(this.#closing.signal);
    this.#shell = attempt;
    attempt.catch(() => {
      if (this.#shell === attempt) this.#shell = null;
    });
    return attempt;
  }
}

function lineOf(command: Command): string {
  try {
    return shellLine(command);
  } catch (error) {
    throw new Failed(`${command.argv[0]} cannot be run`, { because: (error as Error).message, cause: error });
  }
}

/** What a command prints: lines as they come, and the whole unless only lines are wanted. */
class CollectedOutput {
  readonly #streams: Readonly<Record<"stdout" | "stderr", LineSplitter>>;
  readonly #limit: number;
  readonly #tooMuch: () => void;
  #bytes = 0;

  constructor(options: ExecuteOptions, tooMuch: () => void) {
    const keep = options.output !== "lines";
    const splitter = (name: "stdout" | "stderr"): LineSplitter => new LineSplitter((line) => options.onLine?.(line, name), keep);
    this.#streams = { stdout: splitter("stdout"), stderr: splitter("stderr") };
    this.#limit = keep ? maxOutputBytes : Infinity;
    this.#tooMuch = tooMuch;
  }

  take(stream: "stdout" | "stderr", chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#limit) this.#tooMuch();
    else this.#streams[stream].push(chunk);
  }

  end(): { stdout: string; stderr: string } {
    return { stdout: this.#streams.stdout.end(), stderr: this.#streams.stderr.end() };
  }
}
