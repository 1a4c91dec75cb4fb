import { z } from "zod";
import { deviceKinds, proofLevels } from "../names.js";
import {
  byteSize,
  corsOrigins,
  count,
  duration,
  filePath,
  gpuUuid,
  memorySize,
  modelName,
  port,
  positiveDuration,
  rateLimit,
  redisUrl,
  shellCommand,
  shortName,
  variableName,
} from "./schema-values.js";

const device = z.enum(deviceKinds);
const preference = z.enum(["auto", ...deviceKinds]);

/** `device: cuda` is short for `device: { prefer: cuda }`. */
const deviceChoice = z
  .union([
    preference,
    z.strictObject({
      prefer: preference.optional().describe("Device to use when it can be proven to work (default auto)."),
      require: device.optional().describe("Device without which the service answers 503 instead of falling back."),
      proof: z
        .enum(proofLevels)
        .optional()
        .describe("Weakest device proof that is accepted: self, vram or process (default self)."),
    }),
  ])
  .transform((choice) => (typeof choice === "string" ? { prefer: choice } : choice))
  .describe("Device, as one word or as { prefer, require, proof }.");

const slo = z
  .strictObject({
    p95: positiveDuration.describe("95th percentile of the latency, for example 150ms."),
    errorRate: z
      .number({ error: "expected a share of requests from 0 to 1, such as 0.01" })
      .min(0, { error: "expected a share of requests from 0 to 1, such as 0.01" })
      .max(1, { error: "expected a share of requests from 0 to 1, such as 0.01" })
      .optional()
      .describe("Share of requests that may fail, 0 to 1 (default 0.01)."),
  })
  .describe("What users were promised; status and bench compare with it.");

const secretHelp = "expected { env: NAME }, { file: PATH } or { command: TEXT }: a secret's value never stands in this file";
export const secretSource = z
  .union(
    [
      z.strictObject({ env: variableName }),
      z.strictObject({ file: filePath }),
      z.strictObject({
        command: shellCommand.describe("Run by `sh -c` in this file's folder, at most 10 s; what it prints is the value."),
      }),
    ],
    { error: secretHelp },
  )
  .describe("Where the value is read from at deploy time.");

const environmentValue = z
  .union([z.string(), z.number(), z.boolean()], { error: "expected text, a number or true/false" })
  .transform(String);

const gate = z
  .strictObject({
    benchmark: z
      .strictObject({
        maxP95: positiveDuration.describe("The candidate is refused when its p95 is above this."),
        seconds: count(1, 600).optional().describe("How long the gate measures (default 5)."),
      })
      .optional()
      .describe("Benchmark gate; skipped, and printed as skipped, unless configured."),
  })
  .describe("Gates a candidate must pass beside device proof and correctness.");

const logLevel = z.enum(["debug", "info", "warning", "error"]);

const sharedOptions = {
  maxItems: count(1, 100_000).optional().describe("Texts, documents or vectors in one request (default 2048)."),
  maxBodyBytes: byteSize.optional().describe("Largest request body, such as 8MiB (default 8MiB; index 32MiB)."),
  deadline: positiveDuration.optional().describe("A request older than this is answered 503 (default 30s)."),
  threads: count(0, 1024).optional().describe("Threads for one inference; 0 takes the CPU quota (default)."),
  logLevel: logLevel.optional().describe("Least severe level that is logged (default info)."),
  rateLimit: rateLimit
    .optional()
    .describe("What one API key may ask for, such as 100/s or 200000 tokens/min (default: no limit)."),
  corsOrigins: corsOrigins.optional().describe("Origins whose pages may ask, such as https://app.example (default none)."),
  metrics: z.enum(["open", "key"]).optional().describe("Whether /metrics answers everybody (default) or needs an API key."),
  slow: duration.optional().describe("Requests that take longer are logged with their stages; 0s logs none (default 1s)."),
};

const modelOptions = z
  .strictObject({
    engine: z
      .enum(["auto", "onnxruntime-cpu", "torch-cuda", "torch-mps", "torch-cpu", "onnxruntime-cuda"])
      .optional()
      .describe("What computes; auto takes the best engine of the device (default)."),
    dtype: z
      .enum(["auto", "float32", "float16", "int8"])
      .optional()
      .describe("Precision; auto is float16 on cuda, else float32. float16 on cpu and int8 on a GPU are refused."),
    maxBatchTokens: count(16, 10_000_000)
      .optional()
      .describe("Padded tokens in one batch (default: what the device's memory allows, and 4096 a core on a CPU)."),
    maxQueueTokens: count(16, 1_000_000_000).optional().describe("Tokens waiting before requests get 429 (default 131072)."),
    degradedQueueTokens: count(16, 1_000_000_000)
      .optional()
      .describe("The same while a CPU answers in place of a GPU (default 16384)."),
    fallbackLoad: z
      .enum(["eager", "lazy"])
      .optional()
      .describe("Load the engine that takes over beforehand, or when it is needed (default eager)."),
    hang: positiveDuration
      .optional()
      .describe("A batch that takes longer is given up with its engine (default 15s on a GPU, 90s on a CPU)."),
    maxTokens: count(8, 131_072).optional().describe("Truncate texts here; never above the model's own limit."),
    cacheEntries: count(0, 100_000_000)
      .optional()
      .describe("Answers kept in memory; 0 keeps none and switches that cache off (default 10000)."),
    cacheBytes: byteSize.optional().describe("Memory for them, such as 64MiB (default 32MiB)."),
    cacheTtl: duration.optional().describe("How long an answer is kept, also in Redis; 0s is for ever (default 1h)."),
    redisUrl: redisUrl.optional().describe("A Redis that instances share answers through, such as redis://cache:6379/0."),
    redisTimeout: positiveDuration.optional().describe("How long a request waits for Redis at most (default 5ms)."),
    ...sharedOptions,
  })
  .describe("Options of the service.");

const indexOptions = z
  .strictObject({
    dimension: count(1, 65_536).optional().describe("Length of the vectors (default: that of the embedder's model)."),
    indexType: z
      .enum(["auto", "Flat", "IVFFlat", "IVFPQ"])
      .optional()
      .describe("FAISS index type; auto chooses by size (default)."),
    indexNlist: count(0, 16_384).optional().describe("Inverted lists; 0 chooses by size (default)."),
    indexPqM: count(0, 96).optional().describe("Bytes of an IVFPQ code; 0 takes the most a GPU can search (default)."),
    indexRecall: z
      .number()
      .min(0.01)
      .max(1)
      .optional()
      .describe("Share of the true neighbours that searches of inverted lists look for (default 0.95)."),
    indexReplicaFrom: count(1, 1_000_000_000)
      .optional()
      .describe("Smaller namespaces are searched by the CPU alone (default 10000)."),
    indexReplicaWrites: count(1, 1_000_000_000)
      .optional()
      .describe("Changes after which the GPU's copy is made anew (default 10000)."),
    indexReplicaSeconds: count(1, 86_400).optional().describe("Seconds after which it is, if anything changed (default 60)."),
    indexReplicaTimeout: positiveDuration
      .optional()
      .describe("A GPU search that takes longer is answered by the CPU (default 1s)."),
    indexGpuTempMib: count(0, 65_536).optional().describe("MiB FAISS may take on the card beside the index (default 256)."),
    indexFsync: z
      .enum(["always", "interval"])
      .optional()
      .describe("When the log is forced to disk: before each acknowledgement (default), or at most indexFsyncMs later."),
    indexFsyncMs: count(1, 60_000).optional().describe("What a power cut may take with indexFsync: interval (default 100)."),
    indexSegmentMb: count(1, 1024).optional().describe("MiB after which a segment of the log ends (default 32)."),
    indexSnapshotSeconds: count(0, 31_536_000)
      .optional()
      .describe("Seconds between snapshots if anything changed (default 3600; 0 never)."),
    indexSnapshotWrites: count(0, 1_000_000_000)
      .optional()
      .describe("Changes after which a snapshot is made (default 100000; 0 never)."),
    indexSnapshotsKept: count(1, 100).optional().describe("Snapshots that are kept (default 2)."),
    ...sharedOptions,
  })
  .describe("Options of the index.");

const everyService = {
  enabled: z.boolean().optional().describe("false leaves the service out of an environment (default true)."),
  port: port.optional().describe("Public port (embedder 8001, reranker 8002, index 8003)."),
  device: deviceChoice.optional(),
  vram: memorySize.optional().describe("GPU memory the service may use, such as 2GiB."),
  slo: slo.optional(),
  env: z
    .record(variableName, environmentValue)
    .optional()
    .describe("Further environment variables; they win over options. Names that gpuctl controls are refused."),
  secrets: z.record(variableName, secretSource).optional().describe("Secrets by name, given to the service as files."),
  gate: gate.optional(),
  nodes: z.array(shortName).min(1).optional().describe("Nodes that run the service (default: all of the environment)."),
  gpu: gpuUuid.optional().describe("UUID of the GPU to use, as `nvidia-smi -L` prints it."),
};

const model = modelName.optional().describe("Name under `models`.");

export const embedderSchema = z
  .strictObject({
    model,
    ...everyService,
    options: modelOptions.optional(),
    fallback: z
      .literal("cpu", { error: "an embedder can only fall back to `cpu`: another model's vectors would not be comparable" })
      .optional()
      .describe("Same model on the CPU."),
  })
  .describe("Turns texts into vectors.");

export const rerankerSchema = z
  .strictObject({
    model,
    ...everyService,
    options: modelOptions.optional(),
    fallback: z
      .union([
        z.literal("cpu"),
        z.strictObject({
          model: modelName.describe("A smaller model under `models`."),
          maxCandidates: count(1, 10_000).optional().describe("Most documents reranked while on the CPU."),
        }),
      ])
      .optional()
      .describe("What answers when the GPU is lost: `cpu`, or a smaller model."),
  })
  .describe("Orders documents by how well they answer a query.");

export const indexSchema = z
  .strictObject({ ...everyService, options: indexOptions.optional() })
  .describe("Keeps vectors and searches them.");

export const servicesSchema = z.strictObject({
  embedder: embedderSchema.optional(),
  reranker: rerankerSchema.optional(),
  index: indexSchema.optional(),
});

export type EmbedderSettings = z.output<typeof embedderSchema>;
export type RerankerSettings = z.output<typeof rerankerSchema>;
export type IndexSettings = z.output<typeof indexSchema>;
export type ServiceSettings = EmbedderSettings | RerankerSettings | IndexSettings;
export type ServicesSettings = z.output<typeof servicesSchema>;
