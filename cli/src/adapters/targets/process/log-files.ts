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

/** The last lines of a log before `end`, reaching into the rotated file when the current one is short. */
export async function lastLines(file: string, count: number, end = Number.POSITIVE_INFINITY): Promise<string[]> {
  const newest = await tailOf(file, count, end);
  if (newest.length >= count) return newest;
  return [...(await tailOf(`${file}.1`, count - newest.length, Number.POSITIVE_INFINITY)), ...newest];
}

async function tailOf(path: string, count: number, end: number): Promise<string[]> {
  if (count <= 0) return [];
  const file = await openIfThere(path);
  if (file === null) return [];
  try {
    let position = Math.min(end, (await file.stat()).size);
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

/** Reads what is added to a log, through rotations. The keeper rotates by copying a log to `.1` and truncating it. */
export class LogFollower {
  readonly #path: string;
  #position: number;
  #rest = Buffer.alloc(0);

  private constructor(path: string, position: number) {
    this.#path = path;
    this.#position = position;
  }

  /** From the beginning: a log that was not there before. */
  static fromStart(path: string): LogFollower {
    return new LogFollower(path, 0);
  }

  /** From the present end, so that only what comes is read. */
  static async fromEnd(path: string): Promise<LogFollower> {
    return new LogFollower(path, await sizeOf(path));
  }

  /** Bytes of the current file that were read or skipped. */
  get position(): number {
    return this.#position;
  }

  /** The complete lines added since the last call. */
  async read(): Promise<string[]> {
    if ((await sizeOf(this.#path)) >= this.#position) return this.#drain(this.#path);
    // Truncated: what was not yet read of it is in the copy.
    const before = await this.#drain(`${this.#path}.1`);
    this.#position = 0;
    return [...before, ...(await this.#drain(this.#path))];
  }

  async #drain(path: string): Promise<string[]> {
    const file = await openIfThere(path);
    if (file === null) return [];
    try {
      const lines: string[] = [];
      for (;;) {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(chunkBytes), 0, chunkBytes, this.#position);
        if (bytesRead === 0) return lines;
        this.#position += bytesRead;
        lines.push(...this.#complete(buffer.subarray(0, bytesRead)));
      }
    } finally {
      await file.close();
    }
  }

  #complete(chunk: Buffer): string[] {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    const end = this.#rest.lastIndexOf(0x0a);
    if (end < 0) return [];
    const lines = this.#rest.subarray(0, end).toString("utf8").split("\n");
    this.#rest = Buffer.from(this.#rest.subarray(end + 1));
    return lines;
  }
}

const sizeOf = (path: string): Promise<number> =>
  stat(path).then(
    (found) => found.size,
    () => 0,
  );
