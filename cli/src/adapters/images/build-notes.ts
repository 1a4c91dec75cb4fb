import { mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { LastBuild } from "../../domain/images/cache.js";
import type { BuildNotes } from "../../ports/images.js";
import { writeAtomic } from "../files/write-atomic.js";
import { storageFailure } from "../state/storage-failure.js";

/** `images/` of the cache directory: the last build, and the settings of our builder. */
export class CachedBuildNotes implements BuildNotes {
  readonly #last: string;
  readonly #config: string;

  constructor(cache: string) {
    this.#last = join(cache, "images/last-build.json");
    this.#config = join(cache, "images/buildkitd.toml");
  }

  /** A note that is missing or cannot be understood is no note: it is a cache. */
  async lastBuild(): Promise<LastBuild | null> {
    try {
      const value = JSON.parse(await readFile(this.#last, "utf8")) as Partial<LastBuild> | null;
      return isLastBuild(value) ? value : null;
    } catch {
      return null;
    }
  }

  async remember(build: LastBuild): Promise<void> {
    await write(this.#last, `${JSON.stringify(build, null, 2)}\n`);
  }

  async builderConfig(text: string): Promise<string> {
    await write(this.#config, text);
    return this.#config;
  }
}

const isLastBuild = (value: Partial<LastBuild> | null): value is LastBuild =>
  typeof value?.at === "string" &&
  typeof value.image === "string" &&
  typeof value.builder === "string" &&
  [value.seconds, value.total, value.cached].every((figure) => typeof figure === "number");

async function write(path: string, text: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeAtomic(path, text, 0o644);
  } catch (error) {
    throw storageFailure("could not write into the cache directory", path, error);
  }
}
