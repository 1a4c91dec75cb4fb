import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ConfigInvalid } from "../../domain/errors.js";
import type { LockedModel, ModelLockFile } from "../../ports.js";
import { writeAtomic } from "../files/write-atomic.js";
import { errorCode, storageFailure } from "../state/storage-failure.js";

/** gpuctl.lock.json as a file that is replaced atomically. */
export class ModelLock implements ModelLockFile {
  readonly file: string;

  constructor(projectFile: string) {
    this.file = join(dirname(projectFile), "gpuctl.lock.json");
  }

  async read(): Promise<Readonly<Record<string, LockedModel>>> {
    const text = await readFile(this.file, "utf8").catch((error: unknown) => {
      if (errorCode(error) === "ENOENT") return null;
      throw storageFailure("could not read the model lock", this.file, error);
    });
    return text === null ? {} : this.#parse(text);
  }

  async write(models: Readonly<Record<string, LockedModel>>): Promise<void> {
    const sorted = Object.fromEntries(Object.entries(models).sort(([a], [b]) => (a < b ? -1 : 1)));
    try {
      await writeAtomic(this.file, `${JSON.stringify({ schemaVersion: 1, models: sorted }, null, 2)}\n`, 0o644);
    } catch (error) {
      throw storageFailure("could not write the model lock", this.file, error);
    }
  }

  #parse(text: string): Readonly<Record<string, LockedModel>> {
    try {
      const value = JSON.parse(text) as { schemaVersion?: unknown; models?: unknown } | null;
      if (value?.schemaVersion === 1 && typeof value.models === "object" && value.models !== null) {
        const models = value.models as Record<string, LockedModel>;
        if (Object.values(models).every(isLocked)) return models;
      }
    } catch {
      // Said below.
    }
    throw new ConfigInvalid(`the model lock cannot be read: ${this.file}`, {
      because: "it is not a model lock that this gpuctl understands (a merge conflict, or edited by hand)",
      nextSteps: [`git checkout ${this.file}`, `or rm ${this.file} and gpuctl models fetch, which pins the models again`],
    });
  }
}

const isLocked = (entry: Partial<LockedModel> | null): boolean =>
  typeof entry?.id === "string" &&
  typeof entry.revision === "string" &&
  typeof entry.manifest === "string" &&
  typeof entry.files === "object";
