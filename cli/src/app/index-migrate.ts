import { join } from "node:path";
import { createHash } from "node:crypto";
import { indexBench, type IndexBenchResult } from "./index-bench.js";
import type { ServiceAddress } from "./service-address.js";
import { runServingProgram, type ServingTools } from "./serving-tool.js";
import { UsageError } from "../domain/errors.js";

export interface MigrateRequest {
  action: "check" | "migrate" | "undo";
  /** Absolute. */
  indexPath: string;
  /** Absolute; null: what lies beside the index file. */
  documents: string | null;
  /** Absolute; null: a directory of its own below `stateDirectory`, so that the same command finds it again. */
  backupDir: string | null;
  stateDirectory: string;
  namespace: string;
  dimension: number | null;
  reEmbed: boolean;
  acceptLossy: boolean;
  assumeSameModel: boolean;
  recallLoss: number;
  /** Measures CPU and GPU search at this file's size and dimension afterwards. */
  benchmark: boolean;
  gpu: number | null;
  index: ServiceAddress;
  embedder: ServiceAddress | null;
}

export interface MigrateCheck {
  source: {
    path: string;
    type: string;
    dimension: number;
    vectors: number;
    metric: string;
    lossy: boolean;
    lengths: readonly [number, number];
  };
  documents: { file: string | null; matched: number; withText: number; unused: number };
  model: { checked: boolean; texts?: number; meanCosine?: number; because?: string };
  warnings: readonly string[];
}

/** What each step found or did; steps that were not reached are absent. */
export interface MigrateResult {
  backupDir: string;
  check?: MigrateCheck;
  backup?: { directory: string; files: Readonly<Record<string, string>>; indexSnapshot: string | null };
  load?: { namespace: string; items: number };
  verify?: {
    queries: number;
    k: number;
    recall: number;
    /** Null after --re-embed: new vectors have new neighbours, so texts are looked for instead. */
    sourceRecall: number | null;
    msAQuery: { source: number | null; index: number };
  };
  switch?: { namespace: string; kept: string | null; itemsBefore: number };
  /** `items` serve again; what was served, with what was written to it since, is kept. */
  undo?: { namespace: string; kept: string; items: number; itemsKept: number };
  benchmark?: IndexBenchResult;
}

/**
 * Takes a FAISS file with its documents into the index: check, backup, load into a namespace of its own, verify recall, and
 * only then one rename that puts it in service. What is done is written down in the backup directory, so the same command
 * goes on from there; until the rename everything that serves stays as it was.
 */
export async function indexMigrate(tools: ServingTools, request: MigrateRequest): Promise<MigrateResult> {
  if (!(request.recallLoss >= 0 && request.recallLoss <= 1)) {
    throw new UsageError("--recall-loss is not a share between 0 and 1", { nextSteps: ["--recall-loss 0.01"] });
  }
  const backupDir = request.backupDir ?? join(request.stateDirectory, "migrations", directoryName(request));
  const { action, indexPath, documents, namespace, dimension, reEmbed, acceptLossy, assumeSameModel, recallLoss } = request;
  const input = {
    ...{ action, indexPath, documents, namespace, dimension, reEmbed, acceptLossy, assumeSameModel, recallLoss, backupDir },
    index: peer(request.index),
    embedder: request.embedder === null ? null : peer(request.embedder),
  };
  const found = await runServingProgram(tools, { module: "migration", input, failed: "the migration failed" });
  const { event: _, ...steps } = found;
  const result = { ...steps, backupDir } as MigrateResult;
  for (const text of result.check?.warnings ?? []) tools.progress.emit({ kind: "warning", text });
  if (!request.benchmark || result.check === undefined) return result;
  return { ...result, benchmark: await measured(tools, request, result.check) };
}

function measured(tools: ServingTools, { gpu }: MigrateRequest, { source }: MigrateCheck): Promise<IndexBenchResult> {
  const { vectors, dimension } = source;
  return indexBench(tools, { sizes: [vectors], batches: [1, 32, 256], dimension, k: 10, seconds: 2, seed: 42, gpu });
}

/** Two files migrated into one namespace are two migrations. */
function directoryName({ indexPath, namespace }: MigrateRequest): string {
  return createHash("sha256").update(`${indexPath}\0${namespace}`).digest("hex").slice(0, 12);
}

function peer({ base, headers }: ServiceAddress): { address: string; key: string } {
  return { address: base, key: (headers["authorization"] ?? "").replace(/^Bearer /, "") };
}
