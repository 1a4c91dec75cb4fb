import { mkdir, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { Failed, GpuctlError, PreflightRefused } from "../../domain/errors.js";
import type { Sha256 } from "../../domain/names.js";
import { ms } from "../../domain/units.js";
import type { Clock, Command, Executor, Progress, PythonRuntime } from "../../ports.js";
import { type Environment } from "../state/directories.js";
import { errorCode, storageFailure } from "../state/storage-failure.js";
import { pythonOf, type PythonEnvironments } from "../targets/process/python-environment.js";
import { PackageCount } from "./pip-progress.js";

export interface VenvRuntimeOptions {
  environments: PythonEnvironments;
  code: { current(): Promise<{ lock: Sha256; lockPath: string }> };
  executor: Executor;
  clock: Clock;
  progress: Progress;
  signal: AbortSignal;
  env: Environment;
}

const probe = "import sys, json, ensurepip, venv; print(json.dumps([sys.version_info[0], sys.version_info[1], sys.executable]))";
const pollMs = ms(300);
const lockWaitMs = 15 * 60_000;

/** A venv made by pip from the packaged lock, by hash; the same one that a clone's set-up makes. */
export class VenvRuntime implements PythonRuntime {
  readonly #options: VenvRuntimeOptions;

  constructor(options: VenvRuntimeOptions) {
    this.#options = options;
  }

  async find(): Promise<string | null> {
    const { lock } = await this.#options.code.current();
    const found = await this.#options.environments.find(lock);
    return found === null ? null : pythonOf(found);
  }

  async ensure(): Promise<{ python: string; made: boolean }> {
    const present = await this.find();
    if (present !== null) return { python: present, made: false };
    const { lock, lockPath } = await this.#options.code.current();
    const system = await this.#systemPython();
    const directory = this.#options.environments.directory(lock, system.minor);
    const unlock = await this.#lock(`${directory}.lock`);
    try {
      const meanwhile = await this.find();
      if (meanwhile === null) await this.#make(system.executable, directory, lockPath);
      return { python: pythonOf(directory), made: meanwhile === null };
    } finally {
      await unlock();
    }
  }

  async #make(python: string, directory: string, lockPath: string): Promise<void> {
    const { progress } = this.#options;
    progress.emit({ kind: "step", text: `making the Python environment ${directory}` });
    try {
      await rm(directory, { recursive: true, force: true });
      await mkdir(dirname(directory), { recursive: true });
    } catch (error) {
      throw storageFailure("could not make the Python environment", directory, error);
    }
    await this.#run({ argv: [python, "-m", "venv", directory] }, 120_000);
    const counted = new PackageCount(await readFile(lockPath, "utf8"), progress);
    const quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"];
    await this.#run(
      { argv: [pythonOf(directory), "-m", "pip", "install", ...quiet, "--require-hashes", "-r", lockPath] },
      30 * 60_000,
      (line) => {
        counted.line(line);
      },
    );
    counted.end();
    await writeFile(`${directory}/.complete`, "runtime.txt\n");
  }

  async #run(command: Command, deadline: number, onLine?: (line: string) => void): Promise<void> {
    const { executor, signal } = this.#options;
    const result = await executor.run(command, { deadline: ms(deadline), signal, ...(onLine === undefined ? {} : { onLine }) });
    if (result.code === 0) return;
    const said = `${result.stdout}\n${result.stderr}`.trim().split("\n").slice(-4).join("\n");
    throw new Failed("the Python environment could not be made", {
      because: said === "" ? `${command.argv.join(" ")} exited with ${String(result.code ?? result.signal)}` : said,
      nextSteps: ["check the network and pip's own settings: python3 -m pip config list", "then run gpuctl models fetch again"],
    });
  }

  /** The first Python that is new enough and can make environments. */
  async #systemPython(): Promise<{ executable: string; minor: number }> {
    const { executor, signal, env } = this.#options;
    const seen: string[] = [];
    // A Python that was named is the one that is meant, even when another would do.
    const named = env["GPUCTL_PYTHON"] || undefined;
    for (const name of named === undefined ? ["python3", "python3.13", "python3.12", "python3.11"] : [named]) {
      const result = await executor
        .run({ argv: [name, "-c", probe] }, { deadline: ms(20_000), signal })
        .catch((error: unknown) => {
          signal.throwIfAborted();
          if (error instanceof GpuctlError) return null;
          throw error;
        });
      if (result === null) {
        if (name === named) seen.push(`GPUCTL_PYTHON names ${name}, which cannot be run`);
        continue;
      }
      const found = parseProbe(result.stdout);
      if (result.code !== 0 || found === null) seen.push(`${name} has no venv module`);
      else if (found.major === 3 && found.minor >= 11) return found;
      else seen.push(`${name} is ${found.major.toString()}.${found.minor.toString()}`);
    }
    throw new PreflightRefused("the services need Python 3.11 or newer with venv", {
      because: seen.length === 0 ? "no python3 is on PATH" : seen.join(", "),
      nextSteps: [
        "Debian, Ubuntu: sudo apt-get install python3 python3-venv",
        "or name one: GPUCTL_PYTHON=/path/to/python3.12 gpuctl models fetch",
      ],
    });
  }

  /** A file that names its process, as the set-up of a clone makes it too; one whose process is gone is taken over. */
  async #lock(path: string): Promise<() => Promise<void>> {
    const { clock, signal, progress } = this.#options;
    await mkdir(dirname(path), { recursive: true });
    const began = clock.monotonic();
    for (let waiting = false; ;) {
      if (await createExclusive(path)) return () => rm(path, { force: true });
      if (await holderIsGone(path, clock.now())) await rm(path, { force: true });
      else if (clock.monotonic() - began > lockWaitMs) {
        throw new Failed("another process has been making this environment for 15 minutes", {
          because: path,
          nextSteps: [`rm ${path}, if no set-up is running`],
        });
      } else {
        if (!waiting) progress.emit({ kind: "step", text: "another process is making the Python environment: waiting for it" });
        waiting = true;
        await clock.sleep(pollMs, signal);
      }
    }
  }
}

function parseProbe(stdout: string): { major: number; minor: number; executable: string } | null {
  try {
    const [major, minor, executable] = JSON.parse(stdout) as [number, number, string];
    return { major, minor, executable };
  } catch {
    return null;
  }
}

async function createExclusive(path: string): Promise<boolean> {
  try {
    const file = await open(path, "wx", 0o644);
    await file.writeFile(`${process.pid.toString()}\n`);
    await file.close();
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw storageFailure("could not make the Python environment", path, error);
  }
}

async function holderIsGone(path: string, now: Date): Promise<boolean> {
  try {
    const pid = Number(await readFile(path, "utf8"));
    // Created and not yet written: its process is between two system calls, unless it died there.
    if (!Number.isSafeInteger(pid) || pid <= 0) return now.getTime() - (await stat(path)).mtimeMs > 5000;
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return errorCode(error) === "ESRCH";
  }
}
