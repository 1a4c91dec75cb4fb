import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { Failed } from "../../../domain/errors.js";
import type { InstanceId } from "../../../domain/names.js";
import { writeAtomic } from "../../files/write-atomic.js";
import { errorCode, storageFailure } from "../../state/storage-failure.js";
import type { LaunchDocument } from "./launch-document.js";
import type { StateLayout } from "./state-layout.js";

/** Launch documents and secret files of the instances of one environment. */
export class InstanceFiles {
  readonly #layout: StateLayout;

  constructor(layout: StateLayout) {
    this.#layout = layout;
  }

  /** Writes the secrets, one 0600 file each, then the document that points at them. */
  async write(document: LaunchDocument, secrets: Readonly<Record<string, string>>): Promise<void> {
    try {
      await this.#writeSecrets(document.id, secrets);
      await writeAtomic(this.#layout.launchDocument(document.id), `${JSON.stringify(document, null, 2)}\n`);
    } catch (error) {
      throw storageFailure("could not write how to start an instance", this.#layout.launchDocument(document.id), error);
    }
  }

  /** Every document that can be read. */
  async list(): Promise<readonly LaunchDocument[]> {
    const names = await readdir(this.#layout.instances).catch((error: unknown) => {
      if (errorCode(error) === "ENOENT") return [];
      throw error;
    });
    const ids = names.filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -".json".length));
    const found = await Promise.all(ids.map((id) => this.read(id)));
    return found.filter((document) => document !== null);
  }

  async read(id: InstanceId): Promise<LaunchDocument | null> {
    try {
      const value = JSON.parse(await readFile(this.#layout.launchDocument(id), "utf8")) as LaunchDocument;
      return value.id === id ? value : null;
    } catch {
      return null;
    }
  }

  async remove(id: InstanceId): Promise<void> {
    await rm(this.#layout.launchDocument(id), { force: true });
    await rm(this.#layout.secretsOf(id), { force: true, recursive: true });
  }

  /** The directory appears complete, because a paused instance that is opened again may read it at any time. */
  async #writeSecrets(id: InstanceId, secrets: Readonly<Record<string, string>>): Promise<void> {
    const directory = this.#layout.secretsOf(id);
    const temporary = `${directory}.${process.pid.toString()}.tmp`;
    await rm(temporary, { force: true, recursive: true });
    const names = Object.keys(secrets);
    if (names.length === 0) {
      await rm(directory, { force: true, recursive: true });
      return;
    }
    await mkdir(temporary, { mode: 0o700 });
    try {
      for (const [name, value] of Object.entries(secrets)) await writeAtomic(join(temporary, safeName(name)), value);
      await rm(directory, { force: true, recursive: true });
      await rename(temporary, directory);
    } finally {
      await rm(temporary, { force: true, recursive: true });
    }
  }
}

function safeName(name: string): string {
  if (/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name)) return name;
  throw new Failed(`${name} cannot be the name of a secret`, {
    because: "it becomes a file name: letters, digits, dot, dash and underscore",
    nextSteps: ["rename it under `secrets` in gpuctl.yaml"],
  });
}
