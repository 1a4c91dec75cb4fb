import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { Config } from "@oclif/core/config";
import type { BaseCommand } from "../../cli/src/base-command.js";
import type { Io } from "../../cli/src/io.js";

export const packageRoot = fileURLToPath(new URL("../../", import.meta.url));

export interface RunOptions {
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  stdinIsTTY?: boolean;
  /** Prepares the command before it runs, for example to give it fakes. */
  prepare?: (command: Runnable) => void;
}

export interface RunResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

type Runnable = BaseCommand<never> & { id: string; _run(): Promise<unknown> };
type CommandClass = new (argv: string[], config: Config) => object;

/** Runs a command class in this process with its own streams and environment, as the bin would run it. */
export async function runCommand(command: CommandClass, argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const config = await Config.load({ root: packageRoot, devPlugins: false, userPlugins: false });
  const instance = new command([...argv], config) as Runnable;
  instance.id ||= command.name.toLowerCase();
  const { io, finish } = captureIo(options);
  instance.io = io;
  options.prepare?.(instance);
  await instance._run();
  return finish();
}

/** Streams that remember; `finish` closes them and gives back what was written. */
export function captureIo(options: RunOptions = {}): { io: Io; finish: () => Promise<RunResult> } {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const stdin = new PassThrough();
  const [out, err] = [text(stdout), text(stderr)];
  let exitCode = 0;
  const io: Io = {
    stdin,
    stdout,
    stderr,
    env: options.env ?? {},
    cwd: options.cwd ?? packageRoot,
    stdinIsTTY: options.stdinIsTTY ?? false,
    stdoutIsTTY: false,
    stderrIsTTY: false,
    columns: 80,
    setExitCode(code) {
      exitCode = code;
    },
  };
  const finish = async (): Promise<RunResult> => {
    stdin.destroy();
    stdout.end();
    stderr.end();
    return { stdout: await out, stderr: await err, exitCode };
  };
  return { io, finish };
}
