import { renderProblems, toDiagnostics } from "../domain/config/diagnostics.js";
import { projectLayers, userLayers } from "../domain/config/file-layers.js";
import type { Layer, Origin, Traced } from "../domain/config/layers.js";
import { flagOverrides, overrideLayer, variableOverrides, type Override } from "../domain/config/override-layer.js";
import { resolveEnvironment, type Resolution } from "../domain/config/resolve.js";
import { modelSource, type PresetChoice } from "../domain/config/presets.js";
import type { EnvironmentConfig, ModelSource } from "../domain/config/resolved.js";
import type { ProjectFile } from "../domain/config/schema.js";
import type { WrittenEnvironment } from "../domain/config/schema-targets.js";
import { targetValues } from "../domain/config/target-values.js";
import { dotted, lineAndColumn, type Path, type Problem, type SourceDocument } from "../domain/config/source.js";
import { nearest } from "../domain/config/suggest.js";
import { validateProject, validateUser, type Validated } from "../domain/config/validate.js";
import { ConfigInvalid, UsageError } from "../domain/errors.js";
import { serviceNames } from "../domain/names.js";
import { inventoryValues, withInventory } from "../domain/config/apply-inventory.js";
import { readInventory, type InventoryRequest, type Referring } from "./load-inventory.js";

export interface LoadRequest extends InventoryRequest {
  /** `--config`. */
  configPath?: string | undefined;
  /** `--environment`. */
  environment?: string | undefined;
  env: Readonly<Record<string, string | undefined>>;
  cwd: string;
  /** Settings given by a command's own flags: path inside the environment -> value. */
  flags?: Readonly<Record<string, unknown>>;
}

/** A configuration file that was found, and everything that is wrong with it. */
export interface ReadConfig<Value> extends Validated<Value> {
  path: string;
  document: SourceDocument;
}

/** Loads the environment a command is about, after precedence. Throws ConfigInvalid with every problem, UsageError when it is not clear which one is meant. */
export async function loadEnvironment(request: LoadRequest): Promise<EnvironmentConfig> {
  return (await loadWithOrigins(request)).config;
}

/** What gpuctl.yaml says, whichever environment is meant. Throws ConfigInvalid with every problem. */
export async function loadProjectFile(request: LoadRequest): Promise<Omit<Referring, "environment">> {
  const read = await readProject(request);
  return { path: read.path, document: read.document, file: accepted(read) };
}

/** What gpuctl.yaml says, and which of its environments is meant, before any inventory is read. Throws as `loadEnvironment` does. */
export async function loadProject(request: LoadRequest): Promise<Referring & { own: WrittenEnvironment }> {
  const { path, document, file } = await loadProjectFile(request);
  const environment = chooseEnvironment(file, request);
  const own = file.environments[environment];
  if (own === undefined) throw noSuchEnvironment(environment, file);
  return { path, document, file, environment, own };
}

/** The same with the origin of every value, for `config view`. */
export async function loadWithOrigins(request: LoadRequest): Promise<Resolution> {
  const project = await loadProject(request);
  const user = await readUser(request);
  const userFile = user === null ? null : accepted(user);
  const { file, environment, own } = project;
  const targetSettings = withInventory(own, await readInventory(request, project));
  const layers = [
    ...overrides(flagOverrides(request.flags ?? {})),
    ...overrides(variableOverrides(request.env)),
    ...projectLayers(file, project.document, environment),
    ...(user === null || userFile === null ? [] : userLayers(userFile, user.document, environment)),
  ];
  const declared = serviceNames.filter((service) => file.services[service] ?? own.services?.[service]);
  const resolution = resolveEnvironment({
    project: file.project,
    projectFile: project.path,
    environment,
    target: own.target,
    models: Object.fromEntries(Object.entries(file.models ?? {}).map(([name, model]) => [name, modelSource(model)])),
    declared,
    layers,
  });
  checkOverridden(resolution.config);
  const trace = [
    ...identity(request, project.document, file, environment),
    ...targetValues(project.document, environment),
    ...inventoryValues(targetSettings, project.document, environment),
    ...resolution.trace,
  ];
  return { trace, config: { ...resolution.config, targetSettings } };
}

/** What is decided before any layer: the project, its models, and which environment is meant. */
function identity(request: LoadRequest, document: SourceDocument, file: ProjectFile, environment: string): Traced[] {
  const inFile = (path: Path, part: "key" | "value" = "value"): Origin => ({
    kind: "project-file",
    file: document.file,
    ...lineAndColumn(document.text, document.locate(path, part)?.start ?? 0),
  });
  const chosenBy = (): Origin => {
    if (request.environment !== undefined) return { kind: "flag", name: "--environment" };
    if (request.env["GPUCTL_ENVIRONMENT"]) return { kind: "variable", name: "GPUCTL_ENVIRONMENT" };
    return file.defaultEnvironment === undefined ? inFile(["environments", environment], "key") : inFile(["defaultEnvironment"]);
  };
  return [
    { path: "project", value: file.project, origin: inFile(["project"]) },
    { path: "environment", value: environment, origin: chosenBy() },
    {
      path: "target",
      value: file.environments[environment]?.target ?? null,
      origin: inFile(["environments", environment, "target"]),
    },
    ...Object.entries(file.models ?? {}).map(([name, model]): Traced => ({
      path: dotted(["models", name]),
      value: modelWords(model),
      origin: inFile(["models", name], "key"),
    })),
  ];
}

/** `hub BAAI/bge-m3 <commit>`, `preset bge-m3 int8`: what the file says of a model, in its order. */
function modelWords(model: PresetChoice | ModelSource): string {
  const { source = "preset", ...rest } = model;
  return [
    source,
    ...Object.values(rest).map((value) => (typeof value === "object" ? JSON.stringify(value) : String(value))),
  ].join(" ");
}

/** Finds and reads the project file without judging it. Throws when there is none or when it cannot be read. */
export async function readProject(request: LoadRequest): Promise<ReadConfig<ProjectFile>> {
  const { path, named } = await projectPath(request);
  const read = await request.files.read(path);
  if (read === null) {
    throw new ConfigInvalid(`there is no file ${path}`, {
      because: named ? "it was named by --config or GPUCTL_CONFIG" : "it is a link to a file that does not exist",
      nextSteps: ["gpuctl init", "or leave out --config to search upwards from here"],
    });
  }
  return { path: read.realPath, document: read.document, ...validateProject(read.document) };
}

/** `$XDG_CONFIG_HOME/gpuctl/config.yaml`, or null when there is none. */
export async function readUser(
  request: LoadRequest,
): Promise<(ReadConfig<unknown> & { value: ReturnType<typeof validateUser>["value"] }) | null> {
  const path = userFilePath(request.env);
  const read = path === null ? null : await request.files.read(path);
  return read === null ? null : { path: read.realPath, document: read.document, ...validateUser(read.document) };
}

/** A relative XDG_CONFIG_HOME is invalid by its specification and ignored. */
function userFilePath(env: LoadRequest["env"]): string | null {
  const configured = env["XDG_CONFIG_HOME"];
  if (configured?.startsWith("/")) return `${configured}/gpuctl/config.yaml`;
  return env["HOME"] ? `${env["HOME"]}/.config/gpuctl/config.yaml` : null;
}

async function projectPath({ files, configPath, env, cwd }: LoadRequest): Promise<{ path: string; named: boolean }> {
  const named = configPath ?? (env["GPUCTL_CONFIG"] || undefined);
  if (named !== undefined) return { path: files.absolute(named, cwd), named: true };
  const search = await files.find(cwd);
  if (search.found !== null) return { path: search.found, named: false };
  throw new ConfigInvalid("there is no gpuctl.yaml here or above", {
    data: { missing: true },
    because: search.nearMiss
      ? `only ${search.nearMiss} was found, and the name is gpuctl.yaml`
      : `looked in ${search.searched.join(", ")}`,
    nextSteps: [
      search.nearMiss ? `mv ${search.nearMiss} ${search.nearMiss.replace(/[^/]*$/, "gpuctl.yaml")}` : "gpuctl init",
      "or name the file: --config FILE",
    ],
  });
}

function accepted<Value>(read: ReadConfig<Value>): Value {
  if (read.value !== null) return read.value;
  throw invalidFile(read.document, read.problems);
}

/** The error for a file with problems: all of them, in the text and as data. */
export function invalidFile(document: SourceDocument, problems: readonly Problem[]): ConfigInvalid {
  const errors = problems.filter((problem) => problem.severity === "error").length;
  return new ConfigInvalid(
    `${document.file} has ${errors === 1 ? "a problem" : `${errors} problems`}\n\n${renderProblems(problems, document)}\n`,
    {
      nextSteps: ["gpuctl config validate"],
      data: { problems: toDiagnostics(problems, document) },
    },
  );
}

function chooseEnvironment(file: ProjectFile, request: LoadRequest): string {
  const names = Object.keys(file.environments);
  const named = request.environment ?? (request.env["GPUCTL_ENVIRONMENT"] || undefined) ?? file.defaultEnvironment;
  if (named !== undefined) return named;
  const [only, ...others] = names;
  if (only !== undefined && others.length === 0) return only;
  throw new UsageError("it is not clear which environment is meant", {
    because: `gpuctl.yaml declares ${names.join(", ")} and no defaultEnvironment`,
    nextSteps: names.map((name) => `--environment ${name}`),
  });
}

function noSuchEnvironment(name: string, file: ProjectFile): UsageError {
  const names = Object.keys(file.environments);
  const guess = nearest(name, names);
  return new UsageError(`there is no environment ${JSON.stringify(name)}${guess ? `; did you mean ${guess}?` : ""}`, {
    because: `gpuctl.yaml declares ${names.join(", ")}`,
    nextSteps: names.map((one) => `--environment ${one}`),
  });
}

function overrides(given: readonly Override[]): Layer[] {
  if (given.length === 0) return [];
  const result = overrideLayer(given);
  if ("layer" in result) return [result.layer];
  throw new ConfigInvalid(
    `${result.wrong.length === 1 ? "a setting" : "settings"} given outside of gpuctl.yaml cannot be used: ${result.wrong.join("; ")}`,
    {
      nextSteps: ["gpuctl config view --origin shows where every value comes from", "unset the variable, or correct it"],
    },
  );
}

/** The file is consistent in itself; what flags and variables changed may not be. */
function checkOverridden(config: EnvironmentConfig): void {
  const taken = new Map<number, string>();
  for (const service of Object.values(config.services)) {
    const other = taken.get(service.port);
    if (other !== undefined) {
      throw new ConfigInvalid(`port ${service.port} would be used by ${other} and by ${service.service}`, {
        because: "a flag or a GPUCTL_* variable changed one of them",
        nextSteps: ["gpuctl config view --origin"],
      });
    }
    taken.set(service.port, service.service);
    const smaller = service.fallback?.kind === "model" ? service.fallback.model : null;
    const unknown = [service.model, smaller].find((model) => model !== null && !Object.hasOwn(config.models, model));
    if (unknown !== undefined) {
      throw new ConfigInvalid(`there is no model ${JSON.stringify(unknown)} for ${service.service}`, {
        because: `gpuctl.yaml declares ${Object.keys(config.models).join(", ") || "none"}`,
        nextSteps: ["gpuctl config view --origin"],
      });
    }
  }
}
