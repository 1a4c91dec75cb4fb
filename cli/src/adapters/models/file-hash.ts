import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Sha256 } from "../../domain/names.js";
import { writeAtomic } from "../files/write-atomic.js";

/** SHA-256 of a file, read in pieces. */
export async function hashFile(path: string, signal?: AbortSignal): Promise<Sha256> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    signal?.throwIfAborted();
    hash.update(chunk);
  }
  return hash.digest("hex");
}

/**
 * Hashes by (path, size, modification time, inode): a plan hashes gigabytes once, not at every command. A file changed
 * with its time put back fools it, so staging and `models verify` do not use it.
 */
export class HashCache {
  readonly #file: string;
  #entries: Record<string, string> | null = null;
  #dirty = false;

  constructor(cache: string) {
    this.#file = join(cache, "model-hashes.json");
  }

  async hash(path: string, signal?: AbortSignal): Promise<Sha256> {
    this.#entries ??= await this.#load();
    const key = await identity(path);
    const known = this.#entries[key];
    if (known !== undefined) return known;
    const hash = await hashFile(path, signal);
    this.#entries[key] = hash;
    this.#dirty = true;
    return hash;
  }

  /** Remembers a hash that was computed anyway. */
  async put(path: string, hash: Sha256): Promise<void> {
    this.#entries ??= await this.#load();
    this.#entries[await identity(path)] = hash;
    this.#dirty = true;
  }

  /** Writes what was learned. Only speed depends on it, so it never fails a command. */
  async save(): Promise<void> {
    if (!this.#dirty || this.#entries === null) return;
    const newest = Object.fromEntries(Object.entries(this.#entries).slice(-1000));
    try {
      await mkdir(dirname(this.#file), { recursive: true });
      await writeAtomic(this.#file, JSON.stringify(newest));
      this.#dirty = false;
    } catch {
      this.#dirty = true;
    }
  }

  async #load(): Promise<Record<string, string>> {
    try {
      const value = JSON.parse(await readFile(this.#file, "utf8")) as unknown;
      const entries = typeof value === "object" && value !== null ? Object.entries(value) : [];
      return Object.fromEntries(entries.filter((entry): entry is [string, string] => /^[0-9a-f]{64}$/.test(String(entry[1]))));
    } catch {
      return {};
    }
  }
}

async function identity(path: string): Promise<string> {
  const { size, mtimeNs, ino } = await stat(path, { bigint: true });
  return `${path}\0${size.toString()}\0${mtimeNs.toString()}\0${ino.toString()}`;
}
