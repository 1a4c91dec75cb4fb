import { createHmac, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Failed } from "../../domain/errors.js";
import type { Sha256 } from "../../domain/names.js";
import { createOnce } from "../state/create-once.js";
import { errorCode, storageFailure } from "../state/storage-failure.js";

const keyBytes = 32;

/** An environment's own key, made once: it tells that a secret changed without telling the secret. */
export class HmacKey {
  readonly #file: string;
  #key: Buffer | null = null;

  constructor(state: string) {
    this.#file = join(state, "hmac.key");
  }

  async hmac(value: string): Promise<Sha256> {
    this.#key ??= await this.#load();
    return createHmac("sha256", this.#key).update(value, "utf8").digest("hex");
  }

  async #load(): Promise<Buffer> {
    try {
      return (await this.#read()) ?? (await this.#create());
    } catch (error) {
      throw storageFailure("could not read or make the key of this environment", this.#file, error);
    }
  }

  async #create(): Promise<Buffer> {
    await createOnce(this.#file, `${randomBytes(keyBytes).toString("hex")}\n`);
    // Whoever was first decides.
    const key = await this.#read();
    if (key === null) throw new Failed(`the key of this environment vanished: ${this.#file}`);
    return key;
  }

  async #read(): Promise<Buffer | null> {
    const text = await readFile(this.#file, "utf8").catch((error: unknown) => {
      if (errorCode(error) === "ENOENT") return null;
      throw error;
    });
    if (text === null) return null;
    const key = Buffer.from(text.trim(), "hex");
    if (key.length === keyBytes) return key;
    throw new Failed(`the key of this environment is damaged: ${this.#file}`, {
      because: `it holds ${key.length.toString()} bytes instead of ${keyBytes.toString()}`,
      nextSteps: [`rm ${this.#file}`, "then deploy again: every secret will count as changed once"],
    });
  }
}
