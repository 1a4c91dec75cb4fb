import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { Failed, PreflightRefused } from "../../domain/errors.js";
import type { Sha256 } from "../../domain/names.js";
import { ms } from "../../domain/units.js";
import type { Executor, Progress } from "../../ports.js";
import { errorCode } from "../state/storage-failure.js";

/** One file of a saved image, compressed. */
export interface ImagePart {
  /** Its path in what `docker load` reads. */
  path: string;
  /** The compressed file here, its hash and size. */
  file: string;
  sha256: Sha256;
  bytes: number;
  /** Its place among the image's layers, lowest 0; null for what is no layer. */
  layer: number | null;
}

/** An image of this machine, in pieces that can be sent one by one. */
export interface SavedImage {
  id: string;
  parts: readonly ImagePart[];
  /** Hash of every layer's content, lowest first, as `docker image inspect` shows them. */
  layers: readonly string[];
}

/** An image of this machine before it is saved. */
export interface LocalImageFacts {
  /** Unpacked. */
  bytes: number;
  /** Hash of every layer's content, lowest first. */
  layers: readonly string[];
}

/** Reading and writing an image of 5 GB. */
const saveDeadline = ms(1_800_000);
/** Images that stay saved: this release's and the two before it. */
const kept = 3;

/** What `docker save` writes, split, compressed and kept in the cache, so that a delivery that was cut off goes on where it was. */
export class SavedImages {
  readonly #folder: string;
  readonly #executor: Executor;
  readonly #progress: Progress;

  constructor(cache: string, executor: Executor, progress: Progress) {
    this.#folder = join(cache, "images");
    this.#executor = executor;
    this.#progress = progress;
  }

  /** What Docker says of an image here; null when this machine has none of that id, or no Docker. */
  async look(id: string, signal: AbortSignal): Promise<LocalImageFacts | null> {
    const argv = ["docker", "image", "inspect", "--format", '{{.Size}} {{join .RootFS.Layers " "}}', id] as const;
    const asked = this.#executor.run({ argv }, { deadline: ms(20_000), signal });
    const { code, stdout } = await asked.catch(() => ({ code: null, stdout: "" }));
    const [bytes = "", ...layers] = stdout.trim().split(/\s+/);
    return code === 0 && /^\d+$/.test(bytes) ? { bytes: Number(bytes), layers } : null;
  }

  /** @param id  `sha256:<64 hex>` in the engine of this machine. Throws PreflightRefused when it has no such image. */
  async open(id: string, signal: AbortSignal): Promise<SavedImage> {
    const folder = join(this.#folder, id.replace("sha256:", ""));
    const known = await readIndex(folder);
    if (known !== null) {
      const now = new Date();
      await utimes(folder, now, now);
      return known;
    }
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const work = await mkdtemp(join(this.#folder, ".saving-"));
    try {
      const saved = await this.#save(id, work, folder, signal);
      await writeFile(join(work, "index.json"), JSON.stringify(saved));
      await rm(folder, { recursive: true, force: true });
      await rename(work, folder);
      await this.#forgetOld();
      return saved;
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  async #save(id: string, work: string, folder: string, signal: AbortSignal): Promise<SavedImage> {
    const tar = join(work, "image.tar");
    const whole = join(work, "whole");
    await mkdir(whole);
    this.#progress.emit({ kind: "step", text: `saving ${id.slice(0, 19)} from the Docker of this machine` });
    await this.#must(["docker", "save", "--output", tar, id], id, signal);
    await this.#must(["tar", "-xf", tar, "-C", whole], id, signal);
    await rm(tar);
    const { layers, layerPaths } = await readManifest(whole, id);
    const parts: ImagePart[] = [];
    const files = (await readdir(whole, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    for (const [number, entry] of files.entries()) {
      const path = join(entry.parentPath, entry.name).slice(whole.length + 1);
      const name = `${number}.gz`;
      const made = await compress(join(whole, path), join(work, name), signal);
      const layer = layerPaths.indexOf(path);
      parts.push({ path, file: join(folder, name), ...made, layer: layer < 0 ? null : layer });
      this.#progress.emit({
        kind: "amount",
        label: "compressing the image",
        done: number + 1,
        total: files.length,
        unit: "files",
      });
    }
    await rm(whole, { recursive: true });
    return { id, parts, layers };
  }

  async #must(argv: [string, ...string[]], id: string, signal: AbortSignal): Promise<void> {
    const { code, stderr } = await this.#executor.run({ argv }, { deadline: saveDeadline, signal });
    if (code === 0) return;
    const because = stderr.trim().split("\n").at(-1) ?? `${argv[0]} ended with ${code ?? "a signal"}`;
    if (/no such image/i.test(stderr))
      throw new PreflightRefused(`the image ${id.slice(0, 19)} is not in the Docker of this machine`, {
        because: "without a registry images are sent from here, and another machine built this one",
        nextSteps: ["gpuctl images build", "or name a registry in gpuctl.yaml, and gpuctl images push"],
      });
    throw new Failed(`the image ${id.slice(0, 19)} could not be saved`, {
      because,
      nextSteps: ["docker info", `df -h ${this.#folder}`],
    });
  }

  async #forgetOld(): Promise<void> {
    const folders = (await readdir(this.#folder, { withFileTypes: true })).filter((entry) => entry.isDirectory());
    const dated = await Promise.all(
      folders.map(async ({ name }) => ({ name, at: (await stat(join(this.#folder, name))).mtimeMs })),
    );
    // One that is being saved by another command is younger than a day.
    const yesterday = Date.now() - 86_400_000;
    const [half, whole] = [dated.filter(({ name }) => name.startsWith(".")), dated.filter(({ name }) => !name.startsWith("."))];
    const old = whole.sort((a, b) => b.at - a.at).slice(kept);
    for (const { name } of [...old, ...half.filter(({ at }) => at < yesterday)])
      await rm(join(this.#folder, name), { recursive: true, force: true });
  }
}

async function readIndex(folder: string): Promise<SavedImage | null> {
  try {
    const saved = JSON.parse(await readFile(join(folder, "index.json"), "utf8")) as SavedImage;
    for (const { file, bytes } of saved.parts) if ((await stat(file)).size !== bytes) return null;
    return saved;
  } catch (error) {
    if (errorCode(error) === "ENOENT" || error instanceof SyntaxError) return null;
    throw error;
  }
}

/** `manifest.json` is what every version of `docker save` writes and every engine's `docker load` reads. */
async function readManifest(whole: string, id: string): Promise<{ layers: readonly string[]; layerPaths: readonly string[] }> {
  const manifests = JSON.parse(await readFile(join(whole, "manifest.json"), "utf8")) as { Config: string; Layers: string[] }[];
  const [manifest] = manifests;
  if (manifest === undefined || manifests.length !== 1) throw new Failed(`${id} was saved without a manifest of its own`);
  const config = JSON.parse(await readFile(join(whole, manifest.Config), "utf8")) as { rootfs?: { diff_ids?: string[] } };
  return { layers: config.rootfs?.diff_ids ?? [], layerPaths: manifest.Layers };
}

async function compress(from: string, to: string, signal: AbortSignal): Promise<{ sha256: Sha256; bytes: number }> {
  const hash = createHash("sha256");
  let bytes = 0;
  const counted = async function* (source: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
    for await (const chunk of source) {
      hash.update(chunk);
      bytes += chunk.length;
      yield chunk;
    }
  };
  await pipeline(createReadStream(from), createGzip({ level: 1 }), counted, createWriteStream(to, { mode: 0o600 }), { signal });
  return { sha256: hash.digest("hex"), bytes };
}
