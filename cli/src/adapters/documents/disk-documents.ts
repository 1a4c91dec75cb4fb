import { lstat, opendir, readFile, realpath, stat } from "node:fs/promises";
import { relative, resolve, sep } from "node:path";
import { UsageError } from "../../domain/errors.js";
import { documentKind, maxDocumentBytes, passedOver } from "../../domain/documents.js";
import type { DocumentFile, DocumentReader } from "../../ports.js";

interface Found {
  path: string;
  source: string;
  bytes: number;
}

/** Documents on this machine's disk. A source is the path from `base` where the file is below it, else the whole path. */
export class DiskDocuments implements DocumentReader {
  readonly #cwd: string;
  readonly #base: string;

  /**
   * @param cwd  what the user's paths count from
   * @param base what sources count from, so that they are the same from wherever the command is typed
   */
  constructor(cwd: string, base: string) {
    this.#cwd = cwd;
    this.#base = base;
  }

  async *read(paths: readonly string[], signal: AbortSignal): AsyncGenerator<DocumentFile> {
    for await (const found of this.#find(paths, signal)) yield await readDocument(found);
  }

  async measure(paths: readonly string[], signal: AbortSignal): Promise<{ files: number; bytes: number }> {
    const total = { files: 0, bytes: 0 };
    for await (const { bytes } of this.#find(paths, signal)) {
      total.files += 1;
      total.bytes += bytes;
    }
    return total;
  }

  async prefixes(paths: readonly string[]): Promise<readonly string[]> {
    const base = await realpath(this.#base);
    const found = new Set<string>();
    for (const path of paths) {
      const real = await existing(resolve(this.#cwd, path), path);
      if (!(await lstat(real)).isDirectory()) continue;
      const source = sourceOf(base, real);
      found.add(source === "" || source.endsWith("/") ? source : `${source}/`);
    }
    return [...found];
  }

  async isGone(source: string): Promise<boolean> {
    try {
      await lstat(resolve(await realpath(this.#base), source));
      return false;
    } catch (error) {
      return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
    }
  }

  async *#find(paths: readonly string[], signal: AbortSignal): AsyncGenerator<Found> {
    const seen = new Set<string>();
    const base = await realpath(this.#base);
    for (const path of paths) {
      for await (const file of walk(await existing(resolve(this.#cwd, path), path), signal)) {
        if (seen.has(file)) continue;
        seen.add(file);
        yield { path: file, source: sourceOf(base, file), bytes: (await stat(file)).size };
      }
    }
  }
}

async function existing(path: string, typed: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (cause) {
    throw new UsageError(`${typed} cannot be added`, {
      because:
        cause instanceof Error && "code" in cause && cause.code === "ENOENT"
          ? "there is no such file or directory"
          : String(cause),
      nextSteps: ["gpuctl index add DIRECTORY_OR_FILE"],
      cause,
    });
  }
}

/** A file itself, or the documents below a directory by name. Links below it are not followed: they may form a ring. */
async function* walk(path: string, signal: AbortSignal): AsyncGenerator<string> {
  signal.throwIfAborted();
  if (!(await lstat(path)).isDirectory()) {
    yield path;
    return;
  }
  const entries = [];
  for await (const entry of await opendir(path)) entries.push(entry);
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    if (entry.isDirectory() && !passedOver(entry.name)) yield* walk(resolve(path, entry.name), signal);
    else if (entry.isFile() && documentKind(entry.name) !== null) yield resolve(path, entry.name);
  }
}

function sourceOf(base: string, file: string): string {
  const inside = relative(base, file);
  return (inside.startsWith("..") ? file : inside).split(sep).join("/");
}

async function readDocument({ path, source, bytes }: Found): Promise<DocumentFile> {
  if (bytes > maxDocumentBytes)
    return { source, skipped: `it has ${String(Math.round(bytes / 2 ** 20))} MiB, the limit is 16 MiB` };
  let data: Buffer;
  try {
    data = await readFile(path);
  } catch (error) {
    return { source, skipped: error instanceof Error ? error.message : String(error) };
  }
  if (data.subarray(0, 8192).includes(0)) return { source, skipped: "it is a binary file" };
  try {
    return { source, text: new TextDecoder("utf-8", { fatal: true }).decode(data) };
  } catch {
    return { source, skipped: "it is not valid UTF-8" };
  }
}
