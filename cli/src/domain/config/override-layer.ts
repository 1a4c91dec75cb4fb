import { nearest } from "./suggest.js";
import { problemsFromIssues } from "./issues.js";
import type { Layer, Origin } from "./layers.js";
import { sharedEnvironmentSchema } from "./schema-targets.js";
import { otherVariables, settingAt, settings, typed, type Setting } from "./settings-table.js";
import { dotted, type Path, type SourceDocument } from "./source.js";

/** A value given outside of any file. */
export interface Override {
  setting: Setting;
  value: unknown;
  origin: Extract<Origin, { kind: "flag" | "variable" }>;
}

/** Settings among the environment variables. An empty variable counts as not set. */
export function variableOverrides(env: Readonly<Record<string, string | undefined>>): Override[] {
  return settings.flatMap((setting): Override[] => {
    const text = env[setting.variable];
    if (text === undefined || text === "") return [];
    return [{ setting, value: typed(setting, text), origin: { kind: "variable", name: setting.variable } }];
  });
}

/** Settings given by flags: dotted path -> value, as text or already typed. Undefined values are flags that were not given. */
export function flagOverrides(flags: Readonly<Record<string, unknown>>): Override[] {
  return Object.entries(flags).flatMap(([path, value]): Override[] => {
    if (value === undefined) return [];
    const setting = settingAt(path);
    if (!setting) throw new TypeError(`no setting has the path ${path}`);
    const name = `--${(path.split(".").at(-1) ?? path).replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    return [{ setting, value: typeof value === "string" ? typed(setting, value) : value, origin: { kind: "flag", name } }];
  });
}

/** `GPUCTL_*` variables that mean nothing, each with the name that was probably meant. */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): { name: string; guess: string | null }[] {
  const known = [...Object.keys(otherVariables), ...settings.map((setting) => setting.variable)];
  return Object.keys(env)
    .filter((name) => name.startsWith("GPUCTL_") && !known.includes(name))
    .sort()
    .map((name) => ({ name, guess: nearest(name, known) }));
}

/** A layer of overrides, or what is wrong with them: `origin: message`. */
export function overrideLayer(overrides: readonly Override[]): { layer: Layer } | { wrong: readonly string[] } {
  const raw = {};
  for (const { setting, value } of overrides) put(raw, setting.path, value);
  const parsed = sharedEnvironmentSchema.safeParse(raw);
  const originAt = (path: string): Override["origin"] | undefined =>
    overrides.find(({ setting }) => dotted(setting.path) === path || path.startsWith(`${dotted(setting.path)}.`))?.origin;
  if (parsed.success)
    return { layer: { settings: parsed.data, originOf: (path) => originAt(dotted(path)) ?? { kind: "default" } } };
  const nowhere: SourceDocument = { file: "", text: "", value: raw, problems: [], locate: () => null };
  const wrong = problemsFromIssues(parsed.error.issues, sharedEnvironmentSchema, nowhere).map(
    ({ path, message, hint }) => `${originAt(path ?? "")?.name ?? path ?? "?"}: ${message}${hint ? ` (${hint})` : ""}`,
  );
  return { wrong };
}

function put(root: Record<string, unknown>, path: Path, value: unknown): void {
  let map = root;
  for (const part of path.slice(0, -1)) map = (map[part] ??= {}) as Record<string, unknown>;
  map[String(path.at(-1))] = value;
}
