import { serviceNames, type ServiceName } from "../names.js";
import { optionsOf } from "./service-env.js";
import type { Path } from "./source.js";

/** A setting of an environment that a variable (or a flag) can give. The path is that inside an environment. */
export interface Setting {
  variable: `GPUCTL_${string}`;
  path: Path;
  kind: "text" | "integer" | "flag";
  description: string;
}

/** Variables that choose files, folders and the environment; they are no settings of one. */
export const otherVariables: Readonly<Record<`GPUCTL_${string}`, string>> = {
  GPUCTL_CONFIG: "Project file (as --config).",
  GPUCTL_ENVIRONMENT: "Environment of the project file (as --environment).",
  GPUCTL_STATE_HOME: "Where state is kept (default $XDG_STATE_HOME/gpuctl).",
  GPUCTL_CACHE_DIR: "Where Python environments are kept (default $XDG_CACHE_HOME/gpuctl).",
  GPUCTL_MODEL_STORE: "Where models are kept (default $XDG_DATA_HOME/gpuctl/models).",
  GPUCTL_DEBUG: "Print where an error happened.",
};

const upper = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();

const ofEnvironment: readonly (readonly [string, Setting["kind"], string])[] = [
  ["bind", "text", "Address the public ports bind to."],
  ["load", "text", "Budget for loading a model."],
  ["warmUp", "text", "Budget for warming up."],
  ["drain", "text", "How long running requests may take to end."],
  ["soak", "text", "How long a new release is watched."],
  ["keepWarm", "text", "How long old instances stay ready for a rollback."],
  ["retain", "integer", "Good releases that are kept."],
];

function ofService(service: ServiceName): Setting[] {
  const setting = (name: string, path: Path, kind: Setting["kind"], description: string): Setting => ({
    variable: `GPUCTL_${service.toUpperCase()}_${name}`,
    path: ["services", service, ...path],
    kind,
    description: `${description} of the ${service}.`,
  });
  const optionKind = (option: string): Setting["kind"] =>
    option === "deadline" || option === "logLevel" || option === "indexType" || option === "maxBodyBytes" ? "text" : "integer";
  return [
    setting("ENABLED", ["enabled"], "flag", "Presence"),
    setting("PORT", ["port"], "integer", "Public port"),
    ...(service === "index" ? [] : [setting("MODEL", ["model"], "text", "Model")]),
    setting("DEVICE", ["device", "prefer"], "text", "Device"),
    setting("REQUIRE", ["device", "require"], "text", "Required device"),
    setting("PROOF", ["device", "proof"], "text", "Weakest device proof"),
    setting("VRAM", ["vram"], "text", "GPU memory budget"),
    setting("GPU", ["gpu"], "text", "GPU"),
    ...optionsOf(service).map((option) =>
      setting(upper(option).replace(/^INDEX_TYPE$/, "TYPE"), ["options", option], optionKind(option), `Option ${option}`),
    ),
  ];
}

/** The one table of settings and their variables: `GPUCTL_SOAK`, `GPUCTL_EMBEDDER_PORT`, `GPUCTL_RERANKER_MAX_TOKENS`. */
export const settings: readonly Setting[] = [
  ...ofEnvironment.map(([name, kind, description]): Setting => ({
    variable: `GPUCTL_${upper(name)}`,
    path: [name],
    kind,
    description,
  })),
  ...serviceNames.flatMap(ofService),
];

export const settingAt = (dottedPath: string): Setting | undefined =>
  settings.find((setting) => setting.path.join(".") === dottedPath);

/** A variable's text as the value it would be in the file. Text that is no number stays text, for the schema to refuse. */
export function typed(setting: Setting, text: string): unknown {
  if (setting.kind === "integer") return /^-?\d{1,15}$/.test(text) ? Number(text) : text;
  if (setting.kind === "flag") return text === "true" || text === "1" ? true : text === "false" || text === "0" ? false : text;
  // A size may be a plain number of bytes in the file.
  return setting.path.at(-1) === "maxBodyBytes" && /^\d{1,15}$/.test(text) ? Number(text) : text;
}
