import { access, mkdir, readdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { constants } from "node:fs";
import { join } from "node:path";
import type { Sha256 } from "../../../domain/names.js";
import { sha256 } from "../../../domain/canonical.js";
import { errorCode } from "../../state/storage-failure.js";

/**
 * Python environments are shared by every project of the user and keyed by the hash of their lock. Each one remembers, in
 * `.users/`, the state directories whose kept releases name it, so that pruning one project never breaks another.
 */
export class PythonEnvironments {
  readonly #directory: string;

  constructor(cache: string) {
    this.#directory = join(cache, "python");
  }

  /** Where the environment of a lock is made for one Python, whether or not it exists. */
  directory(lock: Sha256, minor: number): string {
    return join(this.#directory, `${lock.slice(0, 16)}-cp3${minor.toString()}`);
  }

  /** A complete environment of a lock, the newest Python first; null when there is none. */
  async find(lock: Sha256): Promise<string | null> {
    const pattern = new RegExp(`^${lock.slice(0, 16)}-cp3(\\d+)$`);
    const names = (await this.#names()).filter((name) => pattern.test(name));
    const minor = (name: string): number => Number(pattern.exec(name)?.[1]);
    for (const name of names.sort((a, b) => minor(b) - minor(a))) {
      const directory = join(this.#directory, name);
      if (await isComplete(directory)) return directory;
    }
    return null;
  }

  /** Every complete environment, with the first 16 hex of its lock. */
  async all(): Promise<readonly { directory: string; lock: string }[]> {
    const found: { directory: string; lock: string }[] = [];
    for (const name of await this.#names()) {
      const lock = /^([0-9a-f]{16})-cp3\d+$/.exec(name)?.[1];
      const directory = join(this.#directory, name);
      if (lock !== undefined && (await isComplete(directory))) found.push({ directory, lock });
    }
    return found;
  }

  /** Remembers that releases of a state directory need an environment. */
  async claim(directory: string, state: string): Promise<void> {
    await mkdir(join(directory, ".users"), { recursive: true });
    await writeFile(claimFile(directory, state), `${state}\n`, { mode: 0o644 });
    await liveClaims(directory);
  }

  /** Drops the claim of a state directory; true when nobody that still exists needs the environment. */
  async release(directory: string, state: string): Promise<boolean> {
    await rm(claimFile(directory, state), { force: true });
    return (await liveClaims(directory)) === 0;
  }

  /** Whether a state directory has claimed an environment: only those are ours to give up. */
  async claimedBy(directory: string, state: string): Promise<boolean> {
    return exists(claimFile(directory, state));
  }

  async #names(): Promise<string[]> {
    return readdir(this.#directory).catch((error: unknown) => {
      if (errorCode(error) === "ENOENT") return [];
      throw error;
    });
  }
}

export const pythonOf = (environment: string): string => join(environment, "bin/python");

async function isComplete(directory: string): Promise<boolean> {
  try {
    await access(join(directory, ".complete"));
    // The link into the system's Python breaks when that is upgraded away.
    await access(await realpath(pythonOf(directory)), constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const claimFile = (directory: string, state: string): string => join(directory, ".users", sha256(state).slice(0, 16));

/** Counts the claims whose state directory exists, and forgets the others. */
async function liveClaims(directory: string): Promise<number> {
  let live = 0;
  for (const name of await readdir(join(directory, ".users")).catch(() => [])) {
    const file = join(directory, ".users", name);
    const state = (await readFile(file, "utf8").catch(() => "")).trim();
    // An empty one is being written at this moment.
    if (state === "" || (await exists(state))) live += 1;
    else await rm(file, { force: true });
  }
  return live;
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
