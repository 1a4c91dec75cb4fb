import { serviceNames, type ServiceName } from "../names.js";
import { optionsOf, type OptionName } from "./service-env.js";
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
  GPUCTL_PYTHON: "Python that makes environments (default python3 on PATH).",
  GPUCTL_WHEEL: "Wheel of the services to deploy (default: the packaged one).",
  GPUCTL_DEBUG: "Print where an error happened.",
};

/** `services.embedder.options.maxTokens` is given by `GPUCTL_SERVICES__EMBEDDER__OPTIONS__MAX_TOKENS`, `keepWarm` by `GPUCTL_KEEP_WARM`. */
const variableOf = (path: readonly string[]): Setting["variable"] =>
  `GPUCTL_${path.map((part) => part.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()).join("__")}`;

function setting(path: readonly string[], kind: Setting["kind"], description: string): Setting {
  return { variable: variableOf(path), path, kind, description };
}

const ofEnvironment: readonly Setting[] = [
  setting(["bind"], "text", "Address the public ports bind to."),
  setting(["load"], "text", "Budget for loading a model."),
  setting(["warmUp"], "text", "Budget for warming up."),
  setting(["drain"], "text", "How long running requests may take to end."),
  setting(["soak"], "text", "How long a new release is watched."),
  setting(["keepWarm"], "text", "How long old instances stay ready for a rollback."),
  setting(["retain"], "integer", "Good releases that are kept."),
];

const textOptions: readonly OptionName[] = [
  "engine",
  "dtype",
  "fallbackLoad",
  "hang",
  "cacheTtl",
  "redisUrl",
  "redisTimeout",
  "deadline",
  "logLevel",
  "rateLimit",
  "corsOrigins",
  "metrics",
  "slow",
  "indexType",
  "indexReplicaTimeout",
  "maxBodyBytes",
  "cacheBytes",
];

function ofService(service: ServiceName): Setting[] {
  const own = (path: readonly string[], kind: Setting["kind"], what: string): Setting =>
    setting(["services", service, ...path], kind, `${what} of the ${service}.`);
  return [
    own(["enabled"], "flag", "Presence"),
    own(["port"], "integer", "Public port"),
    ...(service === "index" ? [] : [own(["model"], "text", "Model")]),
    own(["device", "prefer"], "text", "Device"),
    own(["device", "require"], "text", "Required device"),
    own(["device", "proof"], "text", "Weakest device proof"),
    own(["vram"], "text", "GPU memory budget"),
    own(["gpu"], "text", "GPU"),
    ...optionsOf(service).map((option) =>
      own(["options", option], textOptions.includes(option) ? "text" : "integer", `Option ${option}`),
    ),
  ];
}

/** The one table of settings and their variables. */
export const settings: readonly Setting[] = [...ofEnvironment, ...serviceNames.flatMap(ofService)];

export const settingAt = (dottedPath: string): Setting | undefined =>
  settings.find((setting) => setting.path.join(".") === dottedPath);

/** A variable's text as the value it would be in the file. Text that is no number stays text, for the schema to refuse. */
export function typed(setting: Setting, text: string): unknown {
  if (setting.kind === "integer") return /^-?\d{1,15}(\.\d{1,6})?$/.test(text) ? Number(text) : text;
  if (setting.kind === "flag") return text === "true" || text === "1" ? true : text === "false" || text === "0" ? false : text;
  // A size may be a plain number of bytes in the file.
  return ["maxBodyBytes", "cacheBytes"].includes(String(setting.path.at(-1))) && /^\d{1,15}$/.test(text) ? Number(text) : text;
}
