/** Commands that the bed runs on this machine, and inside its hosts. */
import { spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";

export interface Ran {
  /** Exit status; null when a signal ended it. */
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  /** What it reads: text, or the contents of a file. */
  input?: string | { file: string };
  env?: Readonly<Record<string, string>>;
  timeoutMs?: number;
}

/** Runs a command to its end, whatever its status; past its time it is killed. */
export async function run(file: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { input, env, timeoutMs = 120_000 } = options;
  const child = spawn(file, args, {
    stdio: "pipe",
    timeout: timeoutMs,
    killSignal: "SIGKILL",
    ...(env && { env: { ...env } }),
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject).once("close", resolve);
  });
  // A command that does not want all of its input says so by its status.
  if (typeof input === "object") await pipeline(createReadStream(input.file), child.stdin).catch(() => undefined);
  else child.stdin.on("error", () => undefined).end(input);
  return { code: await ended, stdout, stderr };
}

/** The same for one that must succeed; its stdout. Throws with everything it said. */
export async function must(file: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(file, args, options);
  if (code !== 0) throw new Error(`${[file, ...args].join(" ")} ended with ${code ?? "a signal"}:\n${stdout}${stderr}`);
  return stdout;
}
