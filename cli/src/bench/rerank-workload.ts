import type { RerankBody } from "../domain/service-types.js";
import type { Corpus } from "./corpus.js";
import { field, notJson, parsed, reportedTokens, type Workload } from "./workload.js";

interface Scored {
  index: number;
  score: number;
}

interface Passage {
  content: string;
  metadata: { source: string };
}

/** One query with `batch` candidate passages, in the form the retrieval app sends: `{query, documents: [{content, metadata}]}`. */
export function rerankWorkload(corpus: Corpus, batch: number): Workload {
  const documents = (ordinal: number): Passage[] =>
    Array.from({ length: batch }, (_, n) => {
      const passage = ordinal * batch + n;
      return { content: corpus.passage(passage), metadata: { source: `passage-${String(passage)}` } };
    });
  const asRequest = (ordinal: number, candidates: readonly Passage[]): { path: string; body: string; items: number } => ({
    path: "/rerank",
    body: JSON.stringify({ query: corpus.query(ordinal), documents: candidates } satisfies RerankBody),
    items: candidates.length,
  });
  return {
    service: "reranker",
    unit: "documents",
    batch,
    request: (ordinal) => asRequest(ordinal, documents(ordinal)),
    tokens: reportedTokens,
    check: (_ordinal, body) => {
      const scores = scoresOf(body);
      return typeof scores === "string" ? [scores] : checkScores(scores, batch);
    },
    again: (ordinal) => asRequest(ordinal, documents(ordinal).reverse()),
    compare: (first, second) => compareReversed(scoresOf(first), scoresOf(second)),
  };
}

function scoresOf(body: string): Scored[] | string {
  const answer = parsed(body);
  if (answer === null) return notJson;
  const results = field(answer, "results");
  if (!Array.isArray(results)) return "it has no results";
  return results.map((result) => {
    const score = field(result, "relevance_score") ?? field(result, "score");
    return { index: Number(field(result, "index")), score: typeof score === "number" ? score : NaN };
  });
}

function checkScores(scores: readonly Scored[], batch: number): string[] {
  const problems: string[] = [];
  if (scores.length !== batch) problems.push(`it has ${String(scores.length)} results for ${String(batch)} documents`);
  if (scores.some(({ score }) => !Number.isFinite(score))) problems.push("a score is not finite");
  const named = new Set(scores.map(({ index }) => index));
  if (named.size !== scores.length || scores.some(({ index }) => !(index >= 0 && index < batch)))
    problems.push("its results do not name each document once");
  if (scores.some(({ score }, n) => score > (scores[n - 1]?.score ?? Infinity)))
    problems.push("its results are not sorted by score");
  return problems;
}

function compareReversed(first: Scored[] | string, second: Scored[] | string): string | null {
  if (typeof first === "string") return first;
  if (typeof second === "string") return second;
  const last = first.length - 1;
  const before = new Map(first.map(({ index, score }) => [index, score]));
  const same = second.every(({ index, score }) => Math.abs((before.get(last - index) ?? NaN) - score) < 1e-3);
  return same ? null : "the same documents in reverse order did not get the same scores";
}
