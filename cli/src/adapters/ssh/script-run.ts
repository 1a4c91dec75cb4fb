import { randomBytes } from "node:crypto";
import type { Readable } from "node:stream";
import { endGroupScript } from "../../domain/ssh/remote-files.js";
import { framed, FrameReader, verdictOf } from "../../domain/ssh/framing.js";
import type { HostShell, ScriptEvents, Verdict } from "./host-shell.js";
import { ms } from "../../domain/units.js";
import { delayed } from "./time-limit.js";
import { connectionLost, lastLines, noShell, type HostAddress } from "./unreachable.js";

/** How long output may pause after the script ended before the rest is given up: a daemon it left can hold the pipe for ever. */
const lingerMs = 2000;
/** How long a script that is to end may take to do so before it is left alone. */
const farewellMs = 3000;
/** How long the host may take to say that a script has begun, once it is to end. */
const answerMs = ms(1500);

/** What is to run, and where its output goes. */
export interface Script {
  text: string;
  input: Readable | null;
  onStdout(chunk: Buffer): void;
  onStderr(chunk: Buffer): void;
  /** What is going on, for the message of a lost connection: `docker ran`. */
  doing: string;
}

/** Runs one script to its end. Throws TargetUnreachable when the connection is lost, else the signal's reason. */
export async function runScript(shell: HostShell, address: HostAddress, script: Script, signal: AbortSignal): Promise<Verdict> {
  const run = new ScriptRun(shell, address, script);
  await run.start(signal);
  return run.finish(signal);
}

class ScriptRun implements ScriptEvents {
  readonly #shell: HostShell;
  readonly #address: HostAddress;
  readonly #script: Script;
  readonly #token = randomBytes(12).toString("hex");
  readonly #frame: FrameReader;
  readonly #ended: Promise<Verdict>;
  #resolve: (verdict: Verdict) => void = nothing;
  #reject: (reason: Error) => void = nothing;
  #abandon: () => void = nothing;
  #verdict: Verdict | null = null;
  #linger: NodeJS.Timeout | undefined;
  /** Set while the script is being ended. */
  #farewell: NodeJS.Timeout | undefined;
  #killed = false;
  /** The end of stderr, which says why when there is no output. */
  #said = "";

  constructor(shell: HostShell, address: HostAddress, script: Script) {
    this.#shell = shell;
    this.#address = address;
    this.#script = script;
    this.#frame = new FrameReader(this.#token, (chunk) => {
      script.onStdout(chunk);
    });
    this.#ended = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // It may fail before anyone waits for it.
    this.#ended.catch(nothing);
  }

  async start(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const text = framed(this.#script.text, this.#token, this.#shell.status);
    // What was asked for may already run when the answer comes, so the answer is waited for: only then can it be ended.
    const patience = delayed(signal, answerMs);
    try {
      this.#abandon = await this.#shell.start(text, this.#script.input, this, patience.signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!this.#shell.lost) throw error;
      throw connectionLost(this.#address, this.#script.doing, error as Error);
    } finally {
      patience.dispose();
    }
  }

  async finish(signal: AbortSignal): Promise<Verdict> {
    const onAbort = (): void => {
      this.#stop();
    };
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      const verdict = await this.#ended;
      signal.throwIfAborted();
      return verdict;
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      clearTimeout(this.#linger);
      clearTimeout(this.#farewell);
      this.#abandon();
    }
  }

  stdout(chunk: Buffer): void {
    this.#frame.push(chunk);
    if (this.#verdict === null && this.#frame.status !== null) this.exited(verdictOf(this.#frame.status));
    else this.#stillTalking();
    if (this.#farewell !== undefined) this.#kill();
  }

  stderr(chunk: Buffer): void {
    this.#said = (this.#said + chunk.toString("utf8", Math.max(0, chunk.length - 2000))).slice(-2000);
    this.#script.onStderr(chunk);
    this.#stillTalking();
  }

  exited(verdict: Verdict): void {
    this.#verdict = verdict;
    this.#stillTalking();
  }

  closed(cause: Error | null): void {
    this.#frame.end();
    if (this.#verdict === null) this.#reject(connectionLost(this.#address, this.#script.doing, cause));
    else if (this.#frame.pid === null) this.#reject(noShell(this.#address, this.#frame.prelude || lastLines(this.#said)));
    else this.#resolve(this.#verdict);
  }

  #stillTalking(): void {
    if (this.#verdict === null) return;
    clearTimeout(this.#linger);
    this.#linger = setTimeout(() => {
      this.closed(null);
    }, lingerMs);
  }

  /** Ends the script on the host as far as that can be done; a host that does not answer is not waited for long. */
  #stop(): void {
    // Nothing more is sent: a file could become whole while its script is being ended.
    this.#script.input?.unpipe();
    this.#farewell = setTimeout(() => {
      this.closed(null);
    }, farewellMs);
    this.#kill();
  }

  /** Channels have no way to end a process that every server understands, so a second script does it, as soon as the pid is known. */
  #kill(): void {
    const { pid } = this.#frame;
    if (pid === null || this.#killed) return;
    this.#killed = true;
    const deaf: ScriptEvents = { stdout: nothing, stderr: nothing, exited: nothing, closed: nothing };
    this.#shell.start(endGroupScript(pid), null, deaf, AbortSignal.timeout(farewellMs)).catch(nothing);
  }
}

const nothing = (): void => undefined;
