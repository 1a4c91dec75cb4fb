import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { Failed } from "../../domain/errors.js";
import type { ContextFiles } from "../../domain/images/contents.js";
import type { BuildContext, SourceRevision } from "../../ports/images.js";
import { errorCode, storageFailure } from "../state/storage-failure.js";

/** As `.dockerignore` beside them lets them through, with the recipe and that file themselves. */
const single = ["Dockerfile", ".dockerignore", "locks/runtime.txt", "locks/cuda.txt"];
const code = "src/gpuctl_serving";

/** What the services' image is built from: `compose/services` of the installed package. */
export class PackageBuildContext implements BuildContext {
  readonly directory: string;

  readonly #noted: string;

  constructor(packageRoot: string) {
    this.directory = join(packageRoot, "compose/services");
    this.#noted = join(packageRoot, "dist/revision.json");
  }

  async packedRevision(): Promise<SourceRevision | null> {
    const text = await readFile(this.#noted, "utf8").catch(() => null);
    return text === null ? null : (JSON.parse(text) as SourceRevision);
  }

  async files(): Promise<ContextFiles> {
    const paths = [...single, ...(await this.#code())];
    const hashes = await Promise.all(paths.map(async (path) => [path, await this.#hash(path)] as const));
    return Object.fromEntries(hashes);
  }

  async #code(): Promise<string[]> {
    const root = join(this.directory, code);
    const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch((error: unknown) => {
      throw this.#unreadable(root, error);
    });
    const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    return files.map((file) => relative(this.directory, file).replaceAll("\\", "/")).filter((path) => !isCache(path));
  }

  async #hash(path: string): Promise<string> {
    const file = join(this.directory, path);
    const data = await readFile(file).catch((error: unknown) => {
      throw this.#unreadable(file, error);
    });
    return createHash("sha256").update(data).digest("hex");
  }

  #unreadable(path: string, error: unknown): Error {
    if (errorCode(error) !== "ENOENT") return storageFailure("could not read what the image is built from", path, error);
    return new Failed("this gpuctl cannot build images", {
      because: `${path} is missing`,
      nextSteps: ["install gpuctl again", "in a clone: git status"],
      cause: error,
    });
  }
}

/** Of Python and its tools: `.dockerignore` leaves them out as well. */
const isCache = (path: string): boolean => path.split("/").some((part) => part === "__pycache__" || /^\..*_cache$/.test(part));
