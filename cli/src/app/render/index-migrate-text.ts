import type { MigrateCheck, MigrateResult } from "../index-migrate.js";

/** What was found and done, a line a step, and how to go back. */
export function indexMigrateText(result: MigrateResult, checkOnly: boolean): string {
  if (result.undo !== undefined) {
    const { namespace, kept, items, itemsKept } = result.undo;
    const again = items === 0 ? `${namespace} is empty again` : `${namespace} serves again the ${count(items)} items of before`;
    return `${again}; the ${count(itemsKept)} items it served until now are kept in ${kept}.`;
  }
  const lines = result.check === undefined ? [] : checkLines(result.check);
  if (checkOnly) return [...lines, "Nothing was changed. Without --check-only it is migrated."].join("\n");
  const { backup, load, verify, switch: switched } = result;
  if (backup !== undefined) lines.push(`backup   ${backup.directory}`);
  if (load !== undefined) lines.push(`loaded   ${count(load.items)} items`);
  if (verify !== undefined) {
    lines.push(...verifyLines(verify));
  }
  if (switched !== undefined) {
    lines.push(`switched ${switched.namespace} serves it`);
    if (switched.kept !== null) {
      lines.push(`         the ${count(switched.itemsBefore)} items of before are kept in ${switched.kept}`);
    }
    lines.push("         to go back: the same command with --undo");
  }
  return lines.join("\n");
}

function verifyLines({ k, queries, recall, sourceRecall, msAQuery }: NonNullable<MigrateResult["verify"]>): string[] {
  const index = `${msAQuery.index.toFixed(2)} ms a query over HTTP, one at a time`;
  if (sourceRecall === null || msAQuery.source === null) {
    return [
      `recall   ${recall.toFixed(3)} of ${count(queries)} texts find their own item among the first ${String(k)}`,
      `         ${index}`,
    ];
  }
  const source = sourceRecall.toFixed(3);
  return [
    `recall   ${recall.toFixed(3)} of the true ${String(k)} neighbours over ${count(queries)} queries (the source: ${source})`,
    `         ${index} (the source in memory: ${msAQuery.source.toFixed(2)} ms)`,
  ];
}

function checkLines({ source, documents, model }: MigrateCheck): string[] {
  const { type, dimension, vectors, metric } = source;
  const same = model.checked
    ? `${String(model.texts)} texts embedded again: mean cosine ${(model.meanCosine ?? 0).toFixed(4)}`
    : `not checked: ${model.because ?? ""}`;
  return [
    `source   ${type}, ${count(vectors)} vectors of ${String(dimension)} dimensions, ${metric}`,
    `         ${documents.file ?? "no documents"}: ${count(documents.matched)} documents, ${count(documents.withText)} with text`,
    `model    ${same}`,
  ];
}

const count = (value: number): string => value.toLocaleString("en-US");
