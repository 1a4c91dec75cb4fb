import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ConfigInvalid } from "../../domain/errors.js";
import type { ImageDevice } from "../../domain/images/build-arguments.js";
import { lockName, pinnedReference, type LockedImage } from "../../domain/images/registry.js";
import type { LockedModel, ModelLockFile } from "../../ports.js";
import type { ImageLock } from "../../ports/images.js";
import { writeAtomic } from "../files/write-atomic.js";
import { errorCode, storageFailure } from "../state/storage-failure.js";

/** What the file holds. `images` came later: a file without it has none. */
interface Contents {
  models: Readonly<Record<string, LockedModel>>;
  images: Readonly<Record<string, LockedImage>>;
}

/** gpuctl.lock.json as a file that is replaced atomically. */
export class ModelLock implements ModelLockFile, ImageLock {
  readonly file: string;

  constructor(projectFile: string) {
    this.file = join(dirname(projectFile), "gpuctl.lock.json");
  }

  async read(): Promise<Readonly<Record<string, LockedModel>>> {
    return (await this.#contents()).models;
  }

  async write(models: Readonly<Record<string, LockedModel>>): Promise<void> {
    const { images } = await this.#contents();
    await this.#replace({ models, images });
  }

  async readImages(): Promise<Readonly<Record<string, LockedImage>>> {
    return (await this.#contents()).images;
  }

  async writeImage(name: string, image: LockedImage): Promise<void> {
    const { models, images } = await this.#contents();
    await this.#replace({ models, images: { ...images, [name]: image } });
  }

  /** `name@sha256:…` of the services' image that deploys of a device use; null before one was pushed. */
  async pinnedServices(device: ImageDevice): Promise<string | null> {
    const image = (await this.readImages())[lockName(device)];
    return image === undefined ? null : pinnedReference(image);
  }

  async #contents(): Promise<Contents> {
    const text = await readFile(this.file, "utf8").catch((error: unknown) => {
      if (errorCode(error) === "ENOENT") return null;
      throw storageFailure("could not read the model lock", this.file, error);
    });
    return text === null ? { models: {}, images: {} } : this.#parse(text);
  }

  async #replace({ models, images }: Contents): Promise<void> {
    const pinned = Object.keys(images).length === 0 ? {} : { images: sorted(images) };
    const value = { schemaVersion: 1, models: sorted(models), ...pinned };
    try {
      await writeAtomic(this.file, `${JSON.stringify(value, null, 2)}\n`, 0o644);
    } catch (error) {
      throw storageFailure("could not write the model lock", this.file, error);
    }
  }

  #parse(text: string): Contents {
    try {
      const value = JSON.parse(text) as { schemaVersion?: unknown; models?: unknown; images?: unknown } | null;
      const { models, images = {} } = value ?? {};
      if (value?.schemaVersion === 1 && isTable(models, isLockedModel) && isTable(images, isLockedImage)) {
        return { models: models as Contents["models"], images: images as Contents["images"] };
      }
    } catch {
      // Said below.
    }
    throw new ConfigInvalid(`the model lock cannot be read: ${this.file}`, {
      because: "it is not a model lock that this gpuctl understands (a merge conflict, or edited by hand)",
      nextSteps: [
        `git checkout ${this.file}`,
        `or rm ${this.file} and gpuctl models fetch, which pins the models again (gpuctl images push pins images)`,
      ],
    });
  }
}

const sorted = <T>(table: Readonly<Record<string, T>>): Record<string, T> =>
  Object.fromEntries(Object.entries(table).sort(([a], [b]) => (a < b ? -1 : 1)));

type Entry = Readonly<Record<string, unknown>> | null;

const isTable = (value: unknown, isEntry: (entry: Entry) => boolean): boolean =>
  typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(isEntry);

const isLockedModel = (entry: Entry): boolean =>
  typeof entry?.["id"] === "string" &&
  typeof entry["revision"] === "string" &&
  typeof entry["manifest"] === "string" &&
  typeof entry["files"] === "object";

const isLockedImage = (entry: Entry): boolean =>
  typeof entry?.["ref"] === "string" &&
  /^sha256:[0-9a-f]{64}$/.test(String(entry["digest"])) &&
  /^[0-9a-f]{64}$/.test(String(entry["contents"]));
