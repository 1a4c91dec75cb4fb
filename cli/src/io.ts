import { isatty } from "node:tty";
import type { Readable, Writable } from "node:stream";

/** The process's edges as one value, so that a test can hand a command its own. */
export interface Io {
  readonly stdin: Readable;
  /** The result, and nothing else. */
  readonly stdout: Writable;
  /** Talk: progress, warnings, errors for people. */
  readonly stderr: Writable;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly stdinIsTTY: boolean;
  readonly stdoutIsTTY: boolean;
  readonly stderrIsTTY: boolean;
  /** Width of the terminal; 80 when there is none. */
  readonly columns: number;
  setExitCode(code: number): void;
}

/** The real process. Colour was decided by the bin before anything was imported (cli/bin/run.js). */
export function processIo(): Io {
  return {
    // Reading it opens it: only for those who want it.
    get stdin() {
      return process.stdin;
    },
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    stdinIsTTY: isatty(0),
    stdoutIsTTY: isatty(1),
    stderrIsTTY: isatty(2),
    columns: (process.stderr as { columns?: number }).columns ?? 80,
    setExitCode(code) {
      process.exitCode = code;
    },
  };
}
