import type { QueryHit, QueryResult } from "../query.js";

/** Answers with their places, then how long each stage took and where it ran. */
export function queryText(result: QueryResult, columns: number): string {
  if (result.hits.length === 0) return "Nothing in the index matches the filter.";
  const width = String(result.hits.length).length;
  const hits = result.hits.flatMap((hit, n) => hitLines(hit, String(n + 1).padStart(width), columns));
  return [...hits, "", ...footer(result)].join("\n");
}

function hitLines(hit: QueryHit, rank: string, columns: number): string[] {
  const place = hit.source === null ? hit.id : `${hit.source}${hit.line === null ? "" : `:${String(hit.line)}`}`;
  const scores = [
    hit.rerankScore === null ? null : `rerank ${hit.rerankScore.toFixed(3)}`,
    `vector ${hit.vectorScore.toFixed(3)}`,
  ];
  const heading = hit.heading === null ? "" : `  ${hit.heading}`;
  const indent = " ".repeat(rank.length + 2);
  return [
    shortened(`${rank}  ${place}  ${scores.filter((score) => score !== null).join("  ")}${heading}`, columns),
    shortened(`${indent}${snippet(hit)}`, columns),
  ];
}

/** The beginning of the piece itself: its headings are shown already. */
function snippet(hit: QueryHit): string {
  const own = hit.heading !== null && hit.text.startsWith(hit.heading) ? hit.text.slice(hit.heading.length) : hit.text;
  return own
    .replace(/^\s*(?:```|~~~).*$/gm, " ")
    .replace(/\s+/g, " ")
    .trim();
}

function footer(result: QueryResult): string[] {
  const { timings, devices } = result;
  const stage = (name: string, took: number, device: string | null): string =>
    `${name} ${took.toFixed(1)} ms${device === null ? "" : ` (${device})`}`;
  const stages = [
    stage("embed", timings.embed, devices.embedder),
    stage("search", timings.search, devices.index),
    timings.rerank === null ? "not reranked" : stage("rerank", timings.rerank, devices.reranker),
    `total ${timings.total.toFixed(1)} ms`,
  ];
  return [`${String(result.hits.length)} of ${String(result.candidates)} candidates  ${stages.join("  ")}`];
}

function shortened(text: string, columns: number): string {
  const characters = Array.from(text);
  return characters.length <= columns
    ? text
    : `${characters
        .slice(0, columns - 1)
        .join("")
        .trimEnd()}…`;
}
