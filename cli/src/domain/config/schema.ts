import { z } from "zod";
import { modelSchema } from "./schema-models.js";
import { environmentSchema, sharedEnvironmentSchema } from "./schema-targets.js";
import { secretSource, servicesSchema } from "./schema-services.js";
import { backendUrl, filePath, modelName, shortName } from "./schema-values.js";

const version = z.literal(1, { error: "expected version: 1, the only version of this file so far" });

const infra = z
  .strictObject({
    directory: filePath.optional().describe("Folder with Pulumi.yaml, or below it (default: that of gpuctl.yaml)."),
    backend: backendUrl.optional().describe("Where Pulumi keeps state (default: its login, else files of this machine)."),
    token: secretSource.optional().describe("Token of the Hetzner Cloud project (default: the variable HCLOUD_TOKEN)."),
  })
  .describe("The Pulumi project that makes what the environments run on.");

/** gpuctl.yaml. Nothing here has a default: defaults are the weakest layer of precedence (resolve.ts). */
export const projectFileSchema = z
  .strictObject({
    version: version.describe("Version of this file's format."),
    project: shortName.describe("Name of the project; part of every name gpuctl makes."),
    defaultEnvironment: shortName.optional().describe("Environment meant when none is named (default: the only one)."),
    models: z.record(modelName, modelSchema).optional().describe("Models by the name services use."),
    services: servicesSchema.describe("What runs, the same in every environment unless that environment says otherwise."),
    infra: infra.optional(),
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
