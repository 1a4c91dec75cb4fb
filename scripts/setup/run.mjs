/** Running other programs from the set-up scripts. Dependency-free and fit for Node 20, like everything in this folder. */
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository. */
export const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** Something the person at the keyboard can mend. Printed without a stack. */
export class SetUpFailed extends Error {
  /**
   * @param {string} what one sentence
   * @param {readonly string[]} nextSteps commands first
   */
  constructor(what, nextSteps = []) {
    super([what, ...(nextSteps.length > 0 ? ["Next:", ...nextSteps.map((step) => `  ${step}`)] : [])].join("\n"));
  }
}

export const say = (/** @type {string} */ text) => process.stderr.write(`${text}\n`);

/**
 * Runs a program to its end and gives back what it wrote; its output is shown only when it fails.
 * @param {string} file
 * @param {readonly string[]} args
 * @param {import("node:child_process").SpawnOptions} options
 * @returns {Promise<string>} stdout
 */
export async function capture(file, args, options = {}) {
  const { code, stdout, stderr } = await attempt(file, args, options);
  if (code === 0) return stdout;
  throw new SetUpFailed(
    `\`${[file, ...args].join(" ")}\` failed (${code ?? "could not be started"}):\n${tail(`${stdout}${stderr}`)}`,
  );
}

/**
 * Like `capture`, for programs whose failure is an answer.
 * @returns {Promise<{ code: number | string | null, stdout: string, stderr: string }>}
 */
export function attempt(file, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(file, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
    child.once("error", (error) => resolve({ code: null, stdout, stderr: `${stderr}${error.message}` }));
    child.once("close", (code, signal) => resolve({ code: code ?? signal, stdout, stderr }));
  });
}

/**
 * Runs a program on our own streams. SIGTERM is passed on; a Ctrl-C reaches it through the terminal, so we only wait.
 * @returns {Promise<number>} its exit code, 128 + signal as a shell would say it
 */
export function show(file, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: "inherit", ...options });
    const forward = () => child.kill("SIGTERM");
    const wait = () => undefined;
    process.on("SIGTERM", forward).on("SIGINT", wait);
    child.once("error", reject);
    child.once("close", (code, signal) => {
      process.off("SIGTERM", forward).off("SIGINT", wait);
      resolve(code ?? { SIGINT: 130, SIGTERM: 143, SIGKILL: 137 }[signal] ?? 1);
    });
  });
}

function tail(text, lines = 40) {
  return text.trimEnd().split("\n").slice(-lines).join("\n");
}
