import { originIn } from "./file-layers.js";
import { valueAt } from "./issues.js";
import type { Traced } from "./layers.js";
import { sharedEnvironmentSettings } from "./schema-targets.js";
import { dotted, type Path, type SourceDocument } from "./source.js";

/** What only the environment's target understands (nodes, registry, namespace ...), as it is written in the project file. */
export function targetValues(document: SourceDocument, environment: string): Traced[] {
  const at: Path = ["environments", environment];
  const known = ["target", ...Object.keys(sharedEnvironmentSettings)];
  const own = valueAt(document.value, at);
  const keys = typeof own === "object" && own !== null ? Object.keys(own).filter((key) => !known.includes(key)) : [];
  return keys
    .flatMap((key) => leaves(valueAt(own, [key]), [key]))
    .map(([path, value]) => {
      return { path: dotted(path), value, origin: originIn(document, "project-file", at)(path) };
    });
}

function leaves(value: unknown, path: Path): [Path, Traced["value"]][] {
  if (value === null || typeof value === "string" || typeof value === "number" || typeof value === "boolean")
    return [[path, value]];
  if (Array.isArray(value)) return [[path, JSON.stringify(value)]];
  return Object.entries(value as Record<string, unknown>).flatMap(([key, inner]) => leaves(inner, [...path, key]));
}
