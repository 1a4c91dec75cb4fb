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

/** The real process. Colour was decided by the bin before anything was imported; see `colour` in cli/bin/run.js. */
export function processIo(): Io {
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    cwd: process.cwd(),
    stdinIsTTY: process.stdin.isTTY,
    stdoutIsTTY: process.stdout.isTTY,
    stderrIsTTY: process.stderr.isTTY,
    columns: process.stderr.columns,
    setExitCode(code) {
      process.exitCode = code;
    },
  };
}
