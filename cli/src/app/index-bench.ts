import { UsageError } from "../domain/errors.js";
import { runServingProgram, type ServingTools } from "./serving-tool.js";

export interface IndexBenchRequest {
  sizes: readonly number[];
  batches: readonly number[];
  dimension: number;
  k: number;
  /** Searching for each figure. */
  seconds: number;
  seed: number;
  /** Null: the first one there is. */
  gpu: number | null;
}

/** Times in milliseconds a call of `batch` queries; `qps` counts queries. */
export interface IndexBenchRow {
  vectors: number;
  type: string;
  device: "cpu" | "cuda";
  batch: number;
  recall: number;
  qps: number;
  p50: number;
  /** Null below 100 calls. */
  p99: number | null;
  calls: number;
  buildSeconds: number;
  bytesAVector: number;
}

/** Sizes from which the second wins clearly, at it and at every larger one measured; null when it never does. */
export interface IndexCrossover {
  batch: number;
  approximateBeatsFlatFrom: number | null;
  gpuBeatsCpuFrom: number | null;
  gpuMeasured: boolean;
  fastest: readonly { vectors: number; type: string; device: "cpu" | "cuda"; qps: number }[];
}

export interface IndexBenchResult {
  rows: readonly IndexBenchRow[];
  crossovers: readonly IndexCrossover[];
  leftOut: readonly { vectors: number; because: string }[];
  /** Why there is no GPU column; null when there is one. */
  gpu: string | null;
  machine: { cpu: string; threads: number; cores: number; faiss: string; load1: number; peakBytes: number };
  data: { kind: string; dimension: number; k: number; queries: number; seed: number };
}

/** Measures the index types against exact search on this machine, outside any running service. */
export async function indexBench(tools: ServingTools, request: IndexBenchRequest): Promise<IndexBenchResult> {
  const { sizes, batches, dimension, k, seconds, seed, gpu } = request;
  if (!(seconds > 0 && seconds <= 3600))
    throw new UsageError("--seconds is not between 0 and 3600", { nextSteps: ["--seconds 2"] });
  const named = { sizes: sizes.join(","), batches: batches.join(","), dimension, k, seconds, seed };
  const args = Object.entries(named).flatMap(([name, value]) => [`--${name}`, String(value)]);
  if (gpu !== null) args.push("--gpu", String(gpu));
  const found = await runServingProgram(tools, { module: "index.bench", args, failed: "the benchmark of the index failed" });
  const { event: _, ...result } = found;
  return result as unknown as IndexBenchResult;
}

/** `1K,10K,1M` or plain numbers. */
export function counts(text: string, flag: string): readonly number[] {
  return text.split(",").map((part) => {
    const found = /^(\d+)([kKmM]?)$/.exec(part.trim());
    const unit = { "": 1, k: 1000, m: 1_000_000 }[(found?.[2] ?? "").toLowerCase()] ?? 1;
    const value = Number(found?.[1]) * unit;
    if (found === null || value < 1) {
      throw new UsageError(`${flag} ${text} is not a list of counts`, { nextSteps: [`${flag} 1K,10K,100K`] });
    }
    return value;
  });
}
