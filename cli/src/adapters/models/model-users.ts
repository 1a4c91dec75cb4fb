import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { Failed } from "../../domain/errors.js";
import { sha256 } from "../../domain/canonical.js";
import type { ModelUse, ModelUses } from "../../ports.js";
import { errorCode } from "../state/storage-failure.js";

/** Inside a model's directory: a file for each project whose lock pinned it, holding that lock's path. */
const usersFolder = ".users";
/** A download that nobody continued for so long is given up, hours. */
const abandonedHours = 24;

/** What on this machine names models of the store: claims of projects, kept releases, launch documents, and processes. */
export class DiskModelUses implements ModelUses {
  readonly #store: string;
  readonly #states: string;
  readonly #proc: string;
  readonly #now: () => number;

  /** `states` holds the state of every project (`<project>/<environment>`). */
  constructor(places: { store: string; states: string; proc?: string }, now: () => number) {
    this.#store = places.store;
    this.#states = places.states;
    this.#proc = places.proc ?? "/proc";
    this.#now = now;
  }

  async claim(directory: string, lock: string): Promise<void> {
    const folder = join(directory, usersFolder);
    try {
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, sha256(lock).slice(0, 16)), `${lock}\n`, { mode: 0o644 });
    } catch (error) {
      // A store of somebody else, shared for reading: then it is theirs to clean.
      if (!["EACCES", "EPERM", "EROFS"].includes(errorCode(error))) throw error;
    }
  }

  async uses(): Promise<readonly ModelUse[]> {
    return [...(await this.#claims()), ...(await this.#releases()), ...(await this.#instances()), ...(await this.#processes())];
  }

  async abandoned(): Promise<readonly { directory: string; bytes: number }[]> {
    const found: { directory: string; bytes: number }[] = [];
    for (const directory of await below(join(this.#store, ".downloads"), 2)) {
      const files = await filesOf(directory);
      const newest = Math.max(0, ...files.map(({ changed }) => changed));
      if (files.length > 0 && this.#now() - newest > abandonedHours * 3600_000) {
        found.push({ directory, bytes: files.reduce((sum, { bytes }) => sum + bytes, 0) });
      }
    }
    return found;
  }

  async changed(directory: string): Promise<number> {
    return (await stat(directory)).mtimeMs;
  }

  /** By one rename, so that a service never finds half a model; what is left of a killed removal the next fetch sweeps up. */
  async remove(directory: string): Promise<void> {
    if (relative(this.#store, directory).startsWith("..")) throw new Error(`${directory} is not below ${this.#store}`);
    const trash = join(this.#store, ".staging", `removed-${sha256(directory + this.#now().toString()).slice(0, 12)}`);
    await mkdir(dirname(trash), { recursive: true });
    await rename(directory, trash);
    await rm(trash, { recursive: true, force: true });
  }

  /** Locks that pin a model: a claim counts while its lock exists and still names the revision. */
  async #claims(): Promise<ModelUse[]> {
    const uses: ModelUse[] = [];
    for (const directory of await below(this.#store, 2)) {
      for (const name of await names(join(directory, usersFolder))) {
        const lock = (await text(join(directory, usersFolder, name)))?.trim() ?? "";
        const named = lock === "" ? null : await text(lock);
        if (named === null) continue;
        if (refsIn(parsed(named, lock)).some(({ id, revision }) => this.#directory(id, revision) === directory)) {
          uses.push({ directory, by: lock });
        }
      }
    }
    return uses;
  }

  async #releases(): Promise<ModelUse[]> {
    const uses: ModelUse[] = [];
    for (const state of await below(this.#states, 2)) {
      for (const name of await names(join(state, "releases"))) {
        if (!/^r\d+-[0-9a-f]+\.json$/.test(name)) continue;
        const file = join(state, "releases", name);
        const record = await text(file);
        if (record === null) continue;
        const by = `release ${name.slice(0, -".json".length)} of ${basename(dirname(state))}/${basename(state)}`;
        uses.push(...refsIn(parsed(record, file)).map(({ id, revision }) => ({ directory: this.#directory(id, revision), by })));
      }
    }
    return uses;
  }

  async #instances(): Promise<ModelUse[]> {
    const uses: ModelUse[] = [];
    for (const state of await below(this.#states, 2)) {
      for (const name of await names(join(state, "instances"))) {
        if (!name.endsWith(".json")) continue;
        const file = join(state, "instances", name);
        const launch = await text(file);
        if (launch === null) continue;
        const by = `instance ${name.slice(0, -".json".length)}`;
        const { env } = parsed(launch, file) as { env?: Readonly<Record<string, string>> };
        uses.push(...modelDirectories(env ?? {}).map((directory) => ({ directory, by })));
      }
    }
    return uses;
  }

  /** Services that somebody started without a keeper. Only this user's processes can be read, and only they can use the store. */
  async #processes(): Promise<ModelUse[]> {
    const uses: ModelUse[] = [];
    for (const pid of await names(this.#proc)) {
      if (!/^\d+$/.test(pid)) continue;
      const environ = await text(join(this.#proc, pid, "environ"));
      const directories = (environ ?? "").split("\0").flatMap((entry) => {
        const [name = "", ...value] = entry.split("=");
        return modelDirectories({ [name]: value.join("=") });
      });
      uses.push(...directories.map((directory) => ({ directory, by: `process ${pid}, which runs` })));
    }
    return uses;
  }

  #directory(id: string, revision: string): string {
    return join(this.#store, id.replaceAll("/", "--"), revision);
  }
}

/** Every variable that names a model's directory: the service's own, and that of its fallback. */
const modelDirectories = (env: Readonly<Record<string, string>>): string[] =>
  Object.entries(env).flatMap(([name, value]) => (/^GPUCTL_(?:\w+_)?MODEL_DIR$/.test(name) ? [value] : []));

/** Whatever looks like a model that is pinned, anywhere in a document: newer and older records are read alike. */
function refsIn(value: unknown): { id: string; revision: string }[] {
  if (typeof value !== "object" || value === null) return [];
  const { id, revision, files } = value as Record<string, unknown>;
  const own = typeof id === "string" && typeof revision === "string" && typeof files === "object" ? [{ id, revision }] : [];
  return [...own, ...Object.values(value).flatMap(refsIn)];
}

/** What cannot be understood may name anything: then nothing is removed. */
function parsed(content: string, file: string): object {
  try {
    const value: unknown = JSON.parse(content);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // Said below.
  }
  throw new Failed("it cannot be told which models are in use", {
    because: `${file} cannot be read as JSON, and it may name a model`,
    nextSteps: ["gpuctl releases, which says what is wrong with it"],
    data: { file },
  });
}

async function text(file: string): Promise<string | null> {
  return readFile(file, "utf8").catch((error: unknown) => {
    if (["ENOENT", "ENOTDIR", "EACCES", "EPERM", "ESRCH", "EISDIR"].includes(errorCode(error))) return null;
    throw error;
  });
}

async function names(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: unknown) => {
    if (["ENOENT", "ENOTDIR", "EACCES", "EPERM", "ESRCH"].includes(errorCode(error))) return [];
    throw error;
  });
}

/** Directories so many levels below a folder, hidden ones left out. */
async function below(folder: string, levels: number): Promise<string[]> {
  if (levels === 0) return [folder];
  const found: string[] = [];
  for (const name of (await names(folder)).filter((name) => !name.startsWith(".")).sort()) {
    const path = join(folder, name);
    if (
      await stat(path).then(
        (entry) => entry.isDirectory(),
        () => false,
      )
    )
      found.push(...(await below(path, levels - 1)));
  }
  return found;
}

async function filesOf(folder: string): Promise<{ bytes: number; changed: number }[]> {
  const found: { bytes: number; changed: number }[] = [];
  for (const name of await names(folder)) {
    const entry = await stat(join(folder, name)).catch(() => null);
    if (entry?.isDirectory() === true) found.push(...(await filesOf(join(folder, name))));
    else if (entry !== null) found.push({ bytes: entry.size, changed: entry.mtimeMs });
  }
  return found;
}
