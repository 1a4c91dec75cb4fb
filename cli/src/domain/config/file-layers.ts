import { lineAndColumn, type Path, type SourceDocument } from "./source.js";
import type { Layer, Origin } from "./layers.js";
import type { ProjectFile, UserFile } from "./schema.js";
import type { SharedEnvironmentSettings } from "./schema-targets.js";

/** What the project file says about an environment: the environment's own settings over those of every environment. */
export function projectLayers(file: ProjectFile, document: SourceDocument, environment: string): Layer[] {
  const own = file.environments[environment];
  const shared: Layer = { settings: { services: file.services }, originOf: originIn(document, "project-file", []) };
  return own === undefined
    ? [shared]
    : [{ settings: own, originOf: originIn(document, "project-file", ["environments", environment]) }, shared];
}

/** What the user file says about it: settings for environments of that name over defaults for all. */
export function userLayers(file: UserFile, document: SourceDocument, environment: string): Layer[] {
  const layer = (settings: SharedEnvironmentSettings | undefined, prefix: Path): Layer[] =>
    settings === undefined ? [] : [{ settings, originOf: originIn(document, "user-file", prefix) }];
  return [...layer(file.environments?.[environment], ["environments", environment]), ...layer(file.defaults, ["defaults"])];
}

/** Origin of a value by its path below a prefix of the file. */
export const originIn =
  (document: SourceDocument, kind: "project-file" | "user-file", prefix: Path) =>
  (path: Path): Origin => ({
    kind,
    file: document.file,
    ...lineAndColumn(document.text, document.locate([...prefix, ...path], "value")?.start ?? 0),
  });
