import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { LockedModel, Parity } from "../../cli/src/ports.js";

const sha256 = (data: string): string => createHash("sha256").update(data).digest("hex");

export interface ModelSettings {
  id?: string;
  revision?: string;
  source?: Readonly<Record<string, string>>;
  origin?: "reference" | "self-recorded";
  pooling?: "mean" | "cls";
  maxTokens?: number;
  prompts?: Readonly<Record<string, string>>;
  dtype?: "int8";
  parity?: Parity;
  /** Something that only this machine's answers have. */
  probe?: number;
  files?: Readonly<Record<string, string>>;
}

/** Writes a small model into a store, as the fetcher would; returns what a lock pins. */
export function storeModel(store: string, settings: ModelSettings = {}): LockedModel & { directory: string } {
  const {
    id = "acme/tiny",
    revision = "1.0-abc",
    pooling = "mean",
    maxTokens = 256,
    origin = "reference",
    probe = 0.5,
  } = settings;
  const contents = settings.files ?? { "model.onnx": "weights", "tokenizer.json": "{}", "config.json": "{}" };
  const directory = join(store, id.replaceAll("/", "--"), revision);
  mkdirSync(directory, { recursive: true });
  for (const [name, content] of Object.entries(contents)) writeFileSync(join(directory, name), content);
  const files = Object.fromEntries(
    Object.entries(contents).map(([name, content]) => [name, { sha256: sha256(content), bytes: content.length }]),
  );
  const manifest = JSON.stringify({
    schemaVersion: 1,
    id,
    revision,
    kind: "embedder",
    source: settings.source ?? { source: "package", package: "acme-tiny==1.0" },
    licence: "MIT",
    pooling,
    normalize: true,
    prefix: "",
    dimension: 4,
    maxTokens,
    generation: `${id}@${revision}|${pooling}|normalized||4`,
    files,
    prompts: settings.prompts ?? {},
    ...(settings.dtype === undefined ? {} : { dtype: settings.dtype, parity: settings.parity }),
    probes: { kind: "embedder", origin, items: [{ text: "hello", tokens: 3, vector: [probe, 0, 0, 0] }] },
  });
  writeFileSync(join(directory, "manifest.json"), manifest);
  const hashes = Object.fromEntries(Object.entries(files).map(([name, file]) => [name, file.sha256]));
  return { id, revision, manifest: sha256(manifest), files: hashes, directory };
}

export const lockText = (models: Readonly<Record<string, LockedModel>>): string =>
  JSON.stringify({
    schemaVersion: 1,
    models: Object.fromEntries(
      Object.entries(models).map(([name, { id, revision, manifest, files }]) => [name, { id, revision, manifest, files }]),
    ),
  });
