import { problem, valueAt } from "./issues.js";
import type { Path, Problem, SourceDocument } from "./source.js";
import { nearest } from "./suggest.js";

export const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Keys of the map at a path; none when there is no map. */
export function keysOf(root: unknown, path: Path): readonly string[] {
  const value = valueAt(root, path);
  return isMap(value) ? Object.keys(value) : [];
}

/** A name that refers to nothing, with the one that was probably meant. */
export function unknownName(
  code: string,
  kind: string,
  name: string,
  known: readonly string[],
  path: Path,
  document: SourceDocument,
  where = "",
): Problem {
  const guess = nearest(name, known);
  const declared = known.length > 0 ? `declared: ${known.join(", ")}` : "none is declared";
  const hint = guess === null ? declared : `did you mean "${guess}"?`;
  return { ...problem(code, `there is no ${kind} ${JSON.stringify(name)}${where}`, path, document, "value", hint), guess };
}
