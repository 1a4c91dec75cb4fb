import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { sha256 } from "../../domain/canonical.js";
import type { Sha256 } from "../../domain/names.js";
import type { Parity, Probes } from "../../ports.js";

/** manifest.json as docs/architecture.md describes it. */
export interface Manifest {
  schemaVersion: 1;
  id: string;
  revision: string;
  kind: "embedder" | "cross-encoder";
  source: Readonly<Record<string, unknown>>;
  licence: string;
  pooling: string | null;
  normalize: boolean;
  prefix: string;
  maxTokens: number;
  dimension: number | null;
  generation: string | null;
  files: Readonly<Record<string, { sha256: Sha256; bytes: number }>>;
  probes: Probes;
  prompts?: Readonly<Record<string, string>>;
  dtype?: "int8";
  parity?: Parity;
}

export type ReadManifest = { ok: true; manifest: Manifest; hash: Sha256 } | { ok: false; because: string };

/** Where a model's files are, below the store. */
export function modelDirectory(store: string, id: string, revision: string): string {
  return join(store, id.replaceAll("/", "--"), revision);
}

/** Reads a model's manifest with the hash of its bytes. */
export async function readManifest(directory: string): Promise<ReadManifest> {
  const file = join(directory, "manifest.json");
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    return { ok: false, because: error instanceof Error ? error.message : String(error) };
  }
  try {
    const manifest = JSON.parse(text) as Manifest;
    const because = problemOf(manifest);
    return because === null ? { ok: true, manifest, hash: sha256(text) } : { ok: false, because: `${file} ${because}` };
  } catch {
    return { ok: false, because: `${file} is not JSON (cut off, or edited)` };
  }
}

function problemOf(manifest: Partial<Manifest> | null): string | null {
  if (typeof manifest !== "object" || manifest === null) return "is not an object";
  if ((manifest.schemaVersion as number | undefined) !== 1)
    return `has schemaVersion ${String(manifest.schemaVersion)}, and this gpuctl reads 1`;
  if (typeof manifest.id !== "string" || typeof manifest.revision !== "string") return "has no id and revision";
  const { files } = manifest;
  if (typeof files !== "object" || Object.keys(files).length === 0) return "lists no files";
  const outside = Object.keys(files).find((name) => name.startsWith("/") || name.split("/").includes(".."));
  return outside === undefined ? null : `lists a file outside its directory: ${outside}`;
}
