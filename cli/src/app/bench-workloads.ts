import type { Corpus } from "../bench/corpus.js";
import { embedWorkload, vectorsOf } from "../bench/embed-workload.js";
import { rerankWorkload } from "../bench/rerank-workload.js";
import { searchWorkload } from "../bench/search-workload.js";
import { field, type Workload } from "../bench/workload.js";
import { Failed, TargetUnreachable, UsageError } from "../domain/errors.js";
import { normal, seededRandom } from "../domain/seeded-random.js";
import { ms } from "../domain/units.js";
import type { HttpClient, Progress } from "../ports.js";
import { ask, type BenchTarget, type ServiceFacts } from "./bench-target.js";

interface Tools {
  http: HttpClient;
  signal: AbortSignal;
  progress: Progress;
}

/** Texts or documents a request carries unless told otherwise. A quick run sends less at a time, to see enough requests. */
const defaultBatch = { embedder: 8, reranker: 20, index: 1 } as const;
const quickBatch = { embedder: 4, reranker: 8, index: 1 } as const;

const searchDepth = 10;
const queryVectors = 64;
const randomStream = 31;

/** The workload of a service. For the index it first gets vectors that real queries have. */
export async function makeWorkload(
  tools: Tools,
  request: { seed: number; batch: number | null; quick: boolean; embedder: BenchTarget | null },
  target: BenchTarget,
  facts: ServiceFacts,
  corpus: Corpus,
): Promise<Workload> {
  const batch = request.batch ?? (request.quick ? quickBatch : defaultBatch)[target.service];
  if (target.service === "embedder") return embedWorkload(corpus, batch, facts.dimension);
  if (target.service === "reranker") return rerankWorkload(corpus, batch);
  if (batch !== 1)
    throw new UsageError("--batch is for texts and documents", {
      because: "the index is measured with one search a request",
      nextSteps: ["gpuctl bench index"],
    });
  return indexWorkload(tools, request, target, corpus);
}

async function indexWorkload(
  tools: Tools,
  request: { seed: number; embedder: BenchTarget | null },
  target: BenchTarget,
  corpus: Corpus,
): Promise<Workload> {
  const stats = await ask(tools, target, "/api/v1/vector-store/stats");
  const items = countOf(stats, "default");
  const dimension = Number(field(stats, "dimension"));
  if (items === 0 || !(dimension > 0)) {
    throw new Failed("there is nothing to search in", {
      because: items === 0 ? "the index is empty" : "the index does not say how many dimensions its vectors have",
      nextSteps: ["gpuctl index add DIRECTORY", "gpuctl bench index"],
    });
  }
  const bases = await queryBases(tools, request, corpus, dimension);
  return searchWorkload(request.seed, { namespace: "default", items, bases }, searchDepth);
}

function countOf(stats: unknown, namespace: string): number {
  const one = field(field(stats, "namespaces"), namespace);
  const counted = typeof one === "number" ? one : (field(one, "items") ?? field(stats, "items"));
  return typeof counted === "number" ? counted : 0;
}

/** Vectors of real queries from the embedder; random directions, with a warning, where there is none. */
async function queryBases(
  tools: Tools,
  request: { seed: number; embedder: BenchTarget | null },
  corpus: Corpus,
  dimension: number,
): Promise<readonly (readonly number[])[]> {
  const embedded = request.embedder === null ? null : await embedQueries(tools, request.embedder, corpus);
  if (embedded?.every((vector) => vector.length === dimension) === true) return embedded;
  tools.progress.emit({
    kind: "warning",
    text: "searches use random directions instead of vectors of real queries: no embedder of the index's dimension answered",
  });
  const random = seededRandom(request.seed, randomStream);
  return Array.from({ length: queryVectors }, () => {
    const vector = Array.from({ length: dimension }, () => normal(random));
    const norm = Math.hypot(...vector);
    return vector.map((value) => value / norm);
  });
}

async function embedQueries(tools: Tools, embedder: BenchTarget, corpus: Corpus): Promise<number[][] | null> {
  const input = Array.from({ length: queryVectors }, (_, n) => corpus.query(n));
  const { base, headers } = embedder.address;
  const question = {
    method: "POST",
    path: "/v1/embeddings",
    headers,
    body: { input, model: "default" },
    timeout: ms(60_000),
  } as const;
  try {
    const answer = await tools.http.request(base, question, tools.signal);
    const vectors = answer.status === 200 ? vectorsOf(JSON.stringify(answer.body)) : null;
    return Array.isArray(vectors) ? vectors.map((vector) => [...vector]) : null;
  } catch (error) {
    if (error instanceof TargetUnreachable) return null;
    throw error;
  }
}
