import type { Search } from "../domain/service-types.js";
import { variation } from "./corpus.js";
import { field, notJson, parsed, type Workload } from "./workload.js";

export interface SearchTarget {
  namespace: string;
  /** Items in the namespace; an answer must hold k of them, or all. */
  items: number;
  /** Unit vectors that real queries have (or random directions where there is no embedder); varied for every request. */
  bases: readonly (readonly number[])[];
}

interface Hit {
  id: unknown;
  score: number;
}

/** One nearest-neighbour search a request, each with a vector of its own. */
export function searchWorkload(seed: number, target: SearchTarget, k: number): Workload {
  const request = (ordinal: number): { path: string; body: string; items: number } => {
    const base = target.bases[ordinal % target.bases.length] ?? [];
    const vector = variation(base, seed, ordinal);
    const body = { namespace: target.namespace, vector, k } satisfies Search;
    return { path: "/api/v1/vector-store/search", body: JSON.stringify(body), items: 1 };
  };
  return {
    service: "index",
    unit: "queries",
    batch: 1,
    request,
    tokens: () => null,
    check: (_ordinal, body) => {
      const hits = hitsOf(body);
      return typeof hits === "string" ? [hits] : checkHits(hits, Math.min(k, target.items));
    },
    again: request,
    compare: (first, second) => compareHits(hitsOf(first), hitsOf(second)),
  };
}

function hitsOf(body: string): Hit[] | string {
  const answer = parsed(body);
  if (answer === null) return notJson;
  const results = field(answer, "results");
  const hits: unknown = Array.isArray(results) ? results[0] : undefined;
  if (!Array.isArray(hits)) return "it has no results";
  return hits.map((hit) => {
    const score = field(hit, "score");
    return { id: field(hit, "id"), score: typeof score === "number" ? score : NaN };
  });
}

function checkHits(hits: readonly Hit[], wanted: number): string[] {
  const problems: string[] = [];
  if (hits.length !== wanted) problems.push(`it has ${String(hits.length)} hits instead of ${String(wanted)}`);
  if (hits.some(({ score }) => !Number.isFinite(score))) problems.push("a score is not finite");
  if (new Set(hits.map(({ id }) => id)).size !== hits.length) problems.push("it names an item twice");
  if (hits.some(({ score }, n) => score > (hits[n - 1]?.score ?? Infinity))) problems.push("its hits are not sorted by score");
  return problems;
}

function compareHits(first: Hit[] | string, second: Hit[] | string): string | null {
  if (typeof first === "string") return first;
  if (typeof second === "string") return second;
  const same = first.length === second.length && first.every(({ id }, n) => id === second[n]?.id);
  return same ? null : "the same search did not find the same items again";
}
