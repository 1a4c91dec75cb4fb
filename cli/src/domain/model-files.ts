import type { ModelSource } from "./config/resolved.js";
import type { ModelRef } from "./release.js";

/** Whether a file of a stored model is its graph, or the weights of a large one beside it. */
export const isGraph = (file: string): boolean => file === "model.onnx" || file === "model.onnx.data";

/** A revision is the commit, and a suffix when options make it another model. */
export const commitOf = (revision: string): string => revision.slice(0, 40);

/**
 * The source from which anybody can fetch a model of a release again, as the fetcher reads it. Null for one that is not of the hub any
 * more, or not at this commit, and for an int8 copy, whose graph is the own one of the machine that made it.
 */
export function hubSourceOf(
  models: Readonly<Record<string, ModelSource>>,
  { name, id, revision }: Pick<ModelRef, "name" | "id" | "revision">,
): (ModelSource & { source: "hub" }) | null {
  const source = models[name];
  const commit = commitOf(revision);
  if (source?.source !== "hub" || source.id !== id || source.dtype === "int8") return null;
  return source.revision === undefined || source.revision === commit ? { ...source, revision: commit } : null;
}
