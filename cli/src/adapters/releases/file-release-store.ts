import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { Failed } from "../../domain/errors.js";
import type { ReleaseId, Sha256 } from "../../domain/names.js";
import type { ReleaseRecord } from "../../domain/release.js";
import type { ReleaseStore, StoredReleases } from "../../ports.js";
import { syncDirectory, writeAtomic } from "../files/write-atomic.js";
import { createOnce } from "../state/create-once.js";
import { ensurePrivateDirectory } from "../state/state-directory.js";
import { currentUid } from "../state/directories.js";
import { errorCode, storageFailure } from "../state/storage-failure.js";
import { seal, unseal } from "./checksummed.js";
import { HmacKey } from "./hmac-key.js";
import { asRecord, recordName, safeId } from "./record-file.js";

type Secrets = Readonly<Record<string, Readonly<Record<string, string>>>>;

/** Release records as checksummed files in `releases/`, each replaced atomically, secret values beside them. */
export class FileReleaseStore implements ReleaseStore {
  readonly #state: string;
  readonly #directory: string;
  readonly #key: HmacKey;

  constructor(state: string) {
    this.#state = state;
    this.#directory = join(state, "releases");
    this.#key = new HmacKey(state);
  }

  async list(): Promise<StoredReleases> {
    const names = await readdir(this.#directory).catch((error: unknown) => {
      if (errorCode(error) === "ENOENT") return [];
      throw storageFailure("could not read the release records", this.#directory, error);
    });
    const records: ReleaseRecord[] = [];
    const damaged: { file: string; because: string }[] = [];
    for (const name of names.filter((each) => recordName.test(each))) {
      const found = await this.#read(name);
      if (found.ok) records.push(found.record);
      else damaged.push({ file: join(this.#directory, name), because: found.because });
    }
    records.sort((a, b) => a.number - b.number || (a.id < b.id ? -1 : 1));
    return { records, damaged: damaged.sort((a, b) => (a.file < b.file ? -1 : 1)) };
  }

  async create(record: ReleaseRecord, secrets: Secrets): Promise<void> {
    await this.#prepare();
    const holdsSecrets = Object.values(secrets).some((values) => Object.keys(values).length > 0);
    const files = [this.#recordFile(record.id), ...(holdsSecrets ? [this.#secretsFile(record.id)] : [])];
    try {
      // Secrets first: a record that can be read is complete.
      if (holdsSecrets) await writeAtomic(this.#secretsFile(record.id), seal(secrets));
      if (await createOnce(this.#recordFile(record.id), seal(record))) return;
    } catch (error) {
      for (const file of files) await rm(file, { force: true }).catch(() => undefined);
      throw storageFailure("could not write the release record", this.#recordFile(record.id), error);
    }
    throw new Failed(`release ${record.id} exists already`, { nextSteps: ["gpuctl releases"] });
  }

  async update(record: ReleaseRecord): Promise<void> {
    const file = this.#recordFile(record.id);
    try {
      await writeAtomic(file, seal(record));
    } catch (error) {
      throw storageFailure("could not complete the release record", file, error);
    }
  }

  async secrets(id: ReleaseId): Promise<Secrets> {
    const file = this.#secretsFile(id);
    const text = await readFile(file, "utf8").catch((error: unknown) => {
      if (errorCode(error) === "ENOENT") return null;
      throw storageFailure("could not read the secrets of a release", file, error);
    });
    if (text === null) return {};
    const found = unseal(text);
    if (found.ok) return found.body as Secrets;
    throw new Failed(`the secrets of release ${id} cannot be trusted: ${file}`, {
      because: found.because,
      nextSteps: ["gpuctl deploy, which reads today's values", "or roll back to another release: gpuctl releases"],
    });
  }

  async remove(id: ReleaseId): Promise<void> {
    try {
      // The record first: secrets without a record are litter, a record without its secrets is a lie.
      await rm(this.#recordFile(id), { force: true });
      await rm(this.#secretsFile(id), { force: true });
      await syncDirectory(this.#directory);
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw storageFailure("could not remove the release record", this.#recordFile(id), error);
    }
  }

  async hmac(value: string): Promise<Sha256> {
    await this.#prepare();
    return this.#key.hmac(value);
  }

  async #prepare(): Promise<void> {
    await ensurePrivateDirectory(this.#state, currentUid());
    await ensurePrivateDirectory(this.#directory, currentUid());
  }

  async #read(name: string): Promise<{ ok: true; record: ReleaseRecord } | { ok: false; because: string }> {
    const file = join(this.#directory, name);
    let text: string;
    try {
      text = await readFile(file, "utf8");
    } catch (error) {
      return { ok: false, because: error instanceof Error ? error.message : String(error) };
    }
    const found = unseal(text);
    return found.ok ? asRecord(found.body, name) : found;
  }

  #recordFile(id: ReleaseId): string {
    return join(this.#directory, `${safeId(id)}.json`);
  }

  #secretsFile(id: ReleaseId): string {
    return join(this.#directory, `${safeId(id)}.secrets.json`);
  }
}
