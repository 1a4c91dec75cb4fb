import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { InstanceId, ServiceName } from "../../../domain/names.js";
import { errorCode } from "../../state/storage-failure.js";

const logName = /^((embedder|reranker|index)-r\d+-[0-9a-f]{8}-[ab])\.log$/;

/** The log of one instance. */
export interface InstanceLog {
  instance: InstanceId;
  service: ServiceName;
  file: string;
  modified: number;
}

/** Every instance log of an environment, the least recently written first. */
export async function instanceLogs(directory: string): Promise<readonly InstanceLog[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  });
  const found = await Promise.all(
    names.map(async (name): Promise<InstanceLog[]> => {
      const [, instance, service] = logName.exec(name) ?? [];
      if (instance === undefined || service === undefined) return [];
      const file = join(directory, name);
      const modified = await stat(file).then(
        (each) => each.mtimeMs,
        () => null,
      );
      return modified === null ? [] : [{ instance, service: service as ServiceName, file, modified }];
    }),
  );
  return found.flat().sort((a, b) => a.modified - b.modified);
}

const chunkBytes = 64 * 1024;

/** The last lines of a log, reaching into the rotated file when the current one is short. */
export async function lastLines(file: string, count: number): Promise<string[]> {
  const newest = await tailOf(file, count);
  if (newest.length >= count) return newest;
  return [...(await tailOf(`${file}.1`, count - newest.length)), ...newest];
}

async function tailOf(path: string, count: number): Promise<string[]> {
  if (count <= 0) return [];
  const file = await openIfThere(path);
  if (file === null) return [];
  try {
    let position = (await file.stat()).size;
    let text = Buffer.alloc(0);
    while (position > 0 && newlines(text) <= count) {
      const length = Math.min(chunkBytes, position);
      position -= length;
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
      text = Buffer.concat([buffer.subarray(0, bytesRead), text]);
    }
    const lines = text.toString("utf8").split("\n");
    if (lines.at(-1) === "") lines.pop();
    return lines.slice(-count);
  } finally {
    await file.close();
  }
}

const newlines = (text: Buffer): number => text.reduce((sum, byte) => (byte === 0x0a ? sum + 1 : sum), 0);

async function openIfThere(path: string): Promise<FileHandle | null> {
  return open(path, "r").catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  });
}

/** Reads what is added to a log, through rotations: the old file is read to its end before the new one is begun. */
export class LogFollower {
  readonly #path: string;
  #file: FileHandle | null = null;
  #inode = 0;
  #position = 0;
  #rest = Buffer.alloc(0);

  constructor(path: string) {
    this.#path = path;
  }

  /** Starts at the present end, so that only what comes is read. */
  async skipToEnd(): Promise<void> {
    await this.#open();
    if (this.#file !== null) this.#position = (await this.#file.stat()).size;
  }

  /** The complete lines added since the last call. */
  async read(): Promise<string[]> {
    if (this.#file === null) await this.#open();
    if (this.#file === null) return [];
    const lines = await this.#drain(this.#file);
    const now = await stat(this.#path).catch(() => null);
    if (now === null || now.ino === this.#inode) return lines;
    lines.push(...(await this.#drain(this.#file)));
    await this.close();
    return [...lines, ...(await this.read())];
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = null;
    this.#position = 0;
  }

  async #open(): Promise<void> {
    this.#file = await openIfThere(this.#path);
    this.#inode = this.#file === null ? 0 : (await this.#file.stat()).ino;
    this.#position = 0;
  }

  async #drain(file: FileHandle): Promise<string[]> {
    const { size } = await file.stat();
    // A log that was truncated in place starts over.
    if (size < this.#position) this.#position = 0;
    const lines: string[] = [];
    while (this.#position < size) {
      const length = Math.min(chunkBytes, size - this.#position);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, this.#position);
      if (bytesRead === 0) break;
      this.#position += bytesRead;
      this.#rest = Buffer.concat([this.#rest, buffer.subarray(0, bytesRead)]);
      const end = this.#rest.lastIndexOf(0x0a);
      if (end < 0) continue;
      lines.push(...this.#rest.subarray(0, end).toString("utf8").split("\n"));
      this.#rest = Buffer.from(this.#rest.subarray(end + 1));
    }
    return lines;
  }
}
