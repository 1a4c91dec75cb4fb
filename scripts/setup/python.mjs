/** Python: finding one, and the environments made from the locks, kept under the cache directory by the locks' hash. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { attempt, capture, root, say, SetUpFailed } from "./run.mjs";

const locks = join(root, "compose/services/locks");
const probe = "import sys, json; print(json.dumps([sys.version_info[0], sys.version_info[1], sys.executable]))";

/** Where built environments and other things that can be made again live. */
export function cacheDirectory(env = process.env) {
  return env.GPUCTL_CACHE_DIR ?? join(env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "gpuctl");
}

/**
 * The first Python that is new enough and can make environments.
 * @returns {Promise<{ executable: string, tag: string }>} `tag` is `cp311` for Python 3.11
 */
export async function findPython(env = process.env) {
  // A Python that was named is the one that is meant, even when another would do.
  const named = env.GPUCTL_PYTHON || undefined;
  const names = named === undefined ? ["python3", "python3.13", "python3.12", "python3.11", "python"] : [named];
  const seen = [];
  for (const name of names) {
    const { code, stdout } = await attempt(name, ["-c", probe]);
    if (code !== 0) {
      if (name === named) seen.push(`GPUCTL_PYTHON names ${name}, which cannot be run`);
      continue;
    }
    const [major, minor, executable] = JSON.parse(stdout);
    if (major !== 3 || minor < 11) seen.push(`${name} is ${major}.${minor}`);
    else if ((await attempt(executable, ["-c", "import ensurepip, venv"])).code !== 0)
      seen.push(`${name} ${major}.${minor} has no venv module`);
    else return { executable, tag: `cp${major}${minor}` };
  }
  const found = seen.length === 0 ? "none was found" : seen.join(", ");
  throw new SetUpFailed(`gpuctl's services need Python 3.11 or newer with venv: ${found}.`, [
    "Debian, Ubuntu:  sudo apt-get install python3 python3-venv",
    "macOS:           brew install python@3.12",
    "or name one:     GPUCTL_PYTHON=/path/to/python3.12 npm run quickstart",
  ]);
}

/** The environment that runs the services: exactly locks/runtime.txt. */
export function runtimeEnvironment(tag) {
  return join(cacheDirectory(), "python", `${hashOfLocks(["runtime.txt"])}-${tag}`);
}

/** The environment that tests them: runtime and development packages. */
export function developmentEnvironment(tag) {
  return join(cacheDirectory(), "python-dev", `${hashOfLocks(["runtime.txt", "dev.txt"])}-${tag}`);
}

const longLocks = ["runtime.txt", "dev.txt", "long.txt"];

/** The environment of the long tests: what `npm test` has and PyTorch, several GB. */
export async function ensureLongEnvironment(python) {
  const directory = join(cacheDirectory(), "python-long", `${hashOfLocks(longLocks)}-${python.tag}`);
  return ensureEnvironment(python, directory, longLocks);
}

/** The environment of the real clients (openai, cohere, langchain, ...): nothing of the services, which run in their own. */
export async function ensureClientsEnvironment(python) {
  const directory = join(cacheDirectory(), "python-clients", `${hashOfLocks(["clients.txt"])}-${python.tag}`);
  return ensureEnvironment(python, directory, ["clients.txt"]);
}

/**
 * Makes an environment unless it is complete; two at once wait for each other.
 * @param {{ executable: string }} python
 * @param {string} directory
 * @param {readonly string[]} lockFiles names in compose/services/locks
 * @returns {Promise<string>} its Python
 */
export async function ensureEnvironment(python, directory, lockFiles) {
  const interpreter = join(directory, "bin/python");
  const complete = join(directory, ".complete");
  // The interpreter is a link into the system's Python and breaks when that is upgraded away.
  const usable = () => existsSync(complete) && existsSync(interpreter);
  if (usable()) return interpreter;
  mkdirSync(dirname(directory), { recursive: true });
  const release = await lock(`${directory}.lock`);
  try {
    if (usable()) return interpreter;
    say(`making a Python environment (${lockFiles.join(" + ")}, about a minute)`);
    rmSync(directory, { recursive: true, force: true });
    await capture(python.executable, ["-m", "venv", directory]);
    const requirements = lockFiles.flatMap((name) => ["-r", join(locks, name)]);
    await capture(interpreter, [
      "-m",
      "pip",
      "install",
      "--quiet",
      "--disable-pip-version-check",
      "--no-input",
      "--require-hashes",
      ...requirements,
    ]);
    writeFileSync(complete, `${lockFiles.join(" ")}\n`);
    return interpreter;
  } finally {
    release();
  }
}

function hashOfLocks(names) {
  const hash = createHash("sha256");
  for (const name of names) hash.update(readFileSync(join(locks, name)));
  return hash.digest("hex").slice(0, 16);
}

/** A lock file that names its process; one whose process is gone is taken over. */
async function lock(path) {
  for (const started = Date.now(); ; await wait(500)) {
    try {
      writeFileSync(path, `${process.pid}\n`, { flag: "wx" });
      return () => rmSync(path, { force: true });
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    if (holderIsGone(path)) rmSync(path, { force: true });
    else if (Date.now() - started > 15 * 60_000) {
      throw new SetUpFailed(`another process has been making this environment for 15 minutes (${path}).`, [
        `rm ${path}, if no set-up is running`,
      ]);
    }
  }
}

function holderIsGone(path) {
  try {
    const pid = Number(readFileSync(path, "utf8"));
    // Created but not yet written: its process is between two system calls, unless it died there.
    if (pid === 0) return Date.now() - statSync(path).mtimeMs > 5000;
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error.code === "ESRCH";
  }
}
