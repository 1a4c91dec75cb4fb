import { type ChildProcess, spawn } from "node:child_process";
import { Failed, TargetUnreachable } from "../../domain/errors.js";
import type { Command, CommandResult, ExecuteOptions, Executor } from "../../ports.js";
import { LineSplitter } from "./line-splitter.js";

/** Time between SIGTERM and SIGKILL where nothing else is asked for. */
const killAfterMs = 2000;
/** How long output may still arrive after the process ended: a daemon it left behind can hold the pipe open for ever. */
const lingerMs = 300;
const maxOutputBytes = 64 * 1024 * 1024;

/** Runs commands on this machine, each in its own process group, so that ending one ends what it started. */
export class LocalExecutor implements Executor {
  readonly #env: Readonly<Record<string, string | undefined>>;

  constructor(env: Readonly<Record<string, string | undefined>>) {
    this.#env = env;
  }

  async run(command: Command, options: ExecuteOptions): Promise<CommandResult> {
    options.signal?.throwIfAborted();
    const [file, ...args] = command.argv;
    const child = spawn(file, args, {
      cwd: command.cwd,
      env: { ...this.#env, ...command.env },
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
    });
    const running = new RunningCommand(child, command, options);
    return running.finish();
  }
}

class RunningCommand {
  readonly #child: ReturnType<typeof spawn>;
  readonly #command: Command;
  readonly #options: ExecuteOptions;
  readonly #stdout: LineSplitter;
  readonly #stderr: LineSplitter;
  #bytes = 0;
  #stopped: Error | undefined;
  #killTimer: NodeJS.Timeout | undefined;

  constructor(child: ChildProcess, command: Command, options: ExecuteOptions) {
    this.#child = child;
    this.#command = command;
    this.#options = options;
    const keep = options.output !== "lines";
    this.#stdout = new LineSplitter((line) => options.onLine?.(line, "stdout"), keep);
    this.#stderr = new LineSplitter((line) => options.onLine?.(line, "stderr"), keep);
    child.stdout?.on("data", (chunk: Buffer) => {
      this.#take(this.#stdout, chunk);
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      this.#take(this.#stderr, chunk);
    });
    // A command that ends without reading its input is not an error of ours; its exit status says what it thought.
    child.stdin?.on("error", () => undefined);
    child.stdin?.end(command.input ?? "");
  }

  async finish(): Promise<CommandResult> {
    const onAbort = () => {
      this.#stop(asError(this.#options.signal?.reason));
    };
    this.#options.signal?.addEventListener("abort", onAbort, { once: true });
    const deadline = setTimeout(() => {
      this.#stop(this.#tooLate());
    }, this.#options.deadline);
    try {
      const { code, signal } = await this.#ended();
      if (this.#stopped !== undefined) throw this.#stopped;
      return { code, signal, stdout: this.#stdout.end(), stderr: this.#stderr.end() };
    } finally {
      clearTimeout(deadline);
      clearTimeout(this.#killTimer);
      this.#options.signal?.removeEventListener("abort", onAbort);
    }
  }

  #ended(): Promise<{ code: number | null; signal: string | null }> {
    return new Promise((resolve, reject) => {
      this.#child.once("error", (cause) => {
        reject(this.#cannotStart(cause));
      });
      this.#child.once("exit", (code, signal) => {
        const linger = setTimeout(() => {
          this.#child.stdout?.destroy();
          this.#child.stderr?.destroy();
          resolve({ code, signal });
        }, lingerMs);
        this.#child.once("close", () => {
          clearTimeout(linger);
          resolve({ code, signal });
        });
      });
    });
  }

  #take(splitter: LineSplitter, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > maxOutputBytes && this.#options.output !== "lines") this.#stop(this.#tooMuch());
    else splitter.push(chunk);
  }

  #stop(reason: Error): void {
    if (this.#stopped !== undefined) return;
    this.#stopped = reason;
    this.#signalGroup("SIGTERM");
    this.#killTimer = setTimeout(() => {
      this.#signalGroup("SIGKILL");
    }, this.#options.grace ?? killAfterMs);
  }

  /** The group is only signalled while its leader lives: afterwards its number may belong to somebody else. */
  #signalGroup(signal: NodeJS.Signals): void {
    const { pid, exitCode, signalCode } = this.#child;
    if (pid === undefined || exitCode !== null || signalCode !== null) return;
    try {
      process.kill(-pid, signal);
    } catch {
      this.#child.kill(signal);
    }
  }

  #tooLate(): Failed {
    const [file] = this.#command.argv;
    const seconds = (this.#options.deadline / 1000).toString();
    return new Failed(`${file} did not end in time`, {
      because: `it was stopped after its deadline of ${seconds} s`,
      nextSteps: [`run it by hand to see what it waits for: ${this.#command.argv.join(" ")}`],
    });
  }

  #tooMuch(): Failed {
    return new Failed(`${this.#command.argv[0]} was stopped`, { because: "it wrote more than 64 MiB of output" });
  }

  #cannotStart(cause: Error): TargetUnreachable {
    const [file] = this.#command.argv;
    const missing = "code" in cause && cause.code === "ENOENT";
    return new TargetUnreachable(`${file} could not be started`, {
      because: missing ? "it is not installed or not on PATH, or its working directory is gone" : cause.message,
      nextSteps: ["gpuctl doctor"],
      cause,
    });
  }
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Failed("the command was stopped");
}
