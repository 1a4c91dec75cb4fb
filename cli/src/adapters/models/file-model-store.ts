import { readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { EnvironmentConfig, ModelDetails, ModelSource } from "../../domain/config/resolved.js";
import { isGraph } from "../../domain/model-files.js";
import { ConfigInvalid, PreflightRefused } from "../../domain/errors.js";
import type { ModelRef } from "../../domain/release.js";
import type { LockedModel, ModelLockFile, ModelStore, StoredModel } from "../../ports.js";
import type { HashCache } from "./file-hash.js";
import { hashFile } from "./file-hash.js";
import { type Manifest, modelDirectory, readManifest } from "./manifest.js";

export type ModelProblem = { file: string; because: string };

/** Models on disk, each a directory that `models fetch` made by one rename, under the lock of one project. */
export class FileModelStore implements ModelStore {
  readonly #store: string;
  readonly #lock: ModelLockFile;
  readonly #cache: HashCache;

  constructor(store: string, lock: ModelLockFile, cache: HashCache) {
    this.#store = store;
    this.#lock = lock;
    this.#cache = cache;
  }

  async list(): Promise<readonly StoredModel[]> {
    const found: StoredModel[] = [];
    for (const directory of await this.#directories()) {
      const read = await readManifest(directory);
      if (read.ok) found.push(stored(read.manifest, read.hash, directory, read.manifest.id));
    }
    return found;
  }

  async resolve(name: string, config: EnvironmentConfig): Promise<StoredModel> {
    const source = config.models[name];
    if (source === undefined) {
      throw new ConfigInvalid(`gpuctl.yaml has no model named ${name}`, { nextSteps: ["gpuctl config validate"] });
    }
    const locked = (await this.#lock.read())[name];
    if (locked === undefined) {
      throw refuse(`the model ${name} was not fetched for this project`, `${basename(this.#lock.file)} does not pin it`);
    }
    const directory = modelDirectory(this.#store, locked.id, locked.revision);
    const read = await readManifest(directory);
    if (!read.ok) throw refuse(`the model ${name} is not in the model store`, read.because);
    if (!isPinned(read, locked)) {
      throw refuse(`the model ${name} is not the one that the lock pins`, `the manifest in ${directory} has another hash`);
    }
    const because = differs(source, read.manifest);
    if (because !== null) {
      throw new PreflightRefused(`the model ${name} was changed in gpuctl.yaml and not fetched since`, {
        because,
        nextSteps: ["gpuctl models fetch --update"],
        data: { model: name, changed: true },
      });
    }
    return stored(read.manifest, read.hash, directory, name);
  }

  async find(ref: ModelRef): Promise<StoredModel | null> {
    const directory = modelDirectory(this.#store, ref.id, ref.revision);
    const read = await readManifest(directory);
    return read.ok && read.hash === ref.manifest ? stored(read.manifest, read.hash, directory, ref.name) : null;
  }

  /** A stored model that fetching a source would give again; null when that can only be told by fetching. `hashes`: what its lock allows. */
  async matching(name: string, source: ModelSource, hashes: ReadonlySet<string>): Promise<StoredModel | null> {
    // Options make another revision, whose name only the fetcher knows.
    if (optionNames.some((option) => source[option] !== undefined)) return null;
    for (const directory of await this.#directories()) {
      const read = await readManifest(directory);
      if (read.ok && isOutcome(source, read.manifest, hashes)) return stored(read.manifest, read.hash, directory, name);
    }
    return null;
  }

  verify(model: StoredModel, signal: AbortSignal): Promise<readonly ModelProblem[]> {
    return this.#compare(model, async (path) => {
      const hash = await hashFile(path, signal);
      await this.#cache.put(path, hash);
      return hash;
    });
  }

  /** Like `verify`, but believes the hash of a file that has not changed since it was last computed. */
  verifyQuickly(model: StoredModel, signal: AbortSignal): Promise<readonly ModelProblem[]> {
    return this.#compare(model, (path) => this.#cache.hash(path, signal));
  }

  async #compare(model: StoredModel, hash: (path: string) => Promise<string>): Promise<readonly ModelProblem[]> {
    const problems: ModelProblem[] = [];
    for (const [name, expected] of Object.entries(model.ref.files)) {
      const file = join(model.directory, name);
      try {
        const actual = await hash(file);
        if (actual !== expected) problems.push({ file, because: `its sha256 is ${actual}, and the manifest says ${expected}` });
      } catch (error) {
        if (error instanceof Error && "code" in error)
          problems.push({ file, because: error.code === "ENOENT" ? "it is missing" : error.message });
        else throw error;
      }
    }
    await this.#cache.save();
    return problems;
  }

  async #directories(): Promise<string[]> {
    const folders = async (path: string): Promise<string[]> => {
      const names = await readdir(path).catch(() => []);
      const paths = names.filter((name) => !name.startsWith(".")).map((name) => join(path, name));
      const kinds = await Promise.all(
        paths.map((each) =>
          stat(each).then(
            (found) => found.isDirectory(),
            () => false,
          ),
        ),
      );
      return paths.filter((_, index) => kinds[index]).sort();
    };
    return (await Promise.all((await folders(this.#store)).map(folders))).flat();
  }
}

function stored(manifest: Manifest, hash: string, directory: string, name: string): StoredModel {
  const files = Object.fromEntries(Object.entries(manifest.files).map(([file, entry]) => [file, entry.sha256]));
  const { id, revision, generation, kind, dimension, licence, probes } = manifest;
  const bytes = Object.values(manifest.files).reduce((sum, file) => sum + file.bytes, 0);
  const { dtype, parity } = manifest;
  return {
    ref: { name, id, revision, manifest: hash, files, generation },
    ...{ kind, dimension, directory, bytes, licence, probes },
    ...(dtype === undefined ? {} : { dtype }),
    ...(parity === undefined ? {} : { parity }),
  };
}

function refuse(what: string, because: string): PreflightRefused {
  return new PreflightRefused(what, { because, nextSteps: ["gpuctl models fetch"] });
}

/**
 * Answers recorded by this machine's CPU differ in the last digit from another's, so there the files alone decide. So do the
 * ranges that an int8 copy was made with: its graph is this machine's own, and its revision says of which weights it is.
 */
function isPinned({ manifest, hash }: { manifest: Manifest; hash: string }, locked: LockedModel): boolean {
  if (hash === locked.manifest) return true;
  const names = Object.keys(manifest.files);
  const derived = (name: string): boolean => manifest.dtype === "int8" && isGraph(name);
  const sameFiles =
    names.length === Object.keys(locked.files).length &&
    names.every((name) => derived(name) || manifest.files[name]?.sha256 === locked.files[name]);
  return manifest.probes.origin === "self-recorded" && sameFiles;
}

/** Whether gpuctl.yaml now asks for something else than what was fetched; null when it is the same. */
function differs(source: ModelSource, manifest: Manifest): string | null {
  const from = manifest.source;
  const was = String(from["source"]);
  if (was !== source.source) return `it was fetched from a ${was} source and gpuctl.yaml names a ${source.source} source`;
  const fetched: ModelDetails = { prompts: {}, ...manifest, dtype: manifest.dtype ?? "float32", pooling: poolingOf(manifest) };
  const wanted: ModelDetails = { ...source, dtype: source.dtype ?? "float32" };
  const changed = optionNames.find(
    (option) => wanted[option] !== undefined && !isDeepStrictEqual(wanted[option], fetched[option]),
  );
  if (changed !== undefined && appliesTo(changed, manifest)) {
    return `it was fetched with ${changed} ${shown(fetched[changed])} and gpuctl.yaml asks for ${shown(wanted[changed])}`;
  }
  return sourceDiffers(source, from);
}

/** What makes a revision of its own, and the licence, which is recorded. */
const optionNames = ["pooling", "maxTokens", "normalize", "prefix", "prompts", "licence", "dtype"] as const;

const poolingOf = ({ pooling }: Manifest): ModelDetails["pooling"] =>
  pooling === "mean" || pooling === "cls" ? pooling : undefined;

/** A cross-encoder has no vectors to pool, scale or prompt. */
const appliesTo = (option: (typeof optionNames)[number], { kind }: Manifest): boolean =>
  kind === "embedder" || option === "maxTokens" || option === "licence" || option === "dtype";

const shown = (value: ModelDetails[keyof ModelDetails]): string =>
  typeof value === "object" ? JSON.stringify(value) : String(value);

function sourceDiffers(source: ModelSource, from: Readonly<Record<string, unknown>>): string | null {
  switch (source.source) {
    case "package": {
      const fetched = String(from["package"]);
      const same = source.package.includes("==") ? fetched === source.package : fetched.split("==")[0] === source.package;
      return same ? null : `the package was ${fetched} and is now ${source.package}`;
    }
    case "hub": {
      const fetched = `${String(from["id"])}@${String(from["revision"])}`;
      if (source.revision === undefined) return from["id"] === source.id ? null : `it was ${fetched} and is now ${source.id}`;
      const wanted = `${source.id}@${source.revision}`;
      return fetched === wanted ? null : `it was ${fetched} and is now ${wanted}`;
    }
    case "path":
      // A folder may move; its content is pinned by the revision, which `models fetch` computes.
      return null;
  }
}

function isOutcome(source: ModelSource, { revision, source: from, id }: Manifest, hashes: ReadonlySet<string>): boolean {
  if (source.source === "hub") return from["source"] === "hub" && id === source.id && revision === source.revision;
  if (source.source === "path" || from["source"] !== "package" || sourceDiffers(source, from) !== null) return false;
  const plain = /^[^-]+-[0-9a-f]{12}$/.test(revision);
  return plain && hashes.has(String(from["wheel"]));
}
