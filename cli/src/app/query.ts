import { field } from "../bench/workload.js";
import { Failed, GpuctlError } from "../domain/errors.js";
import type { EmbedBody, Found, Hit, RerankBody, Reranked, Result, Search } from "../domain/service-types.js";
import { ms } from "../domain/units.js";
import type { HttpResponse, Progress } from "../ports.js";
import { ask } from "./bench-target.js";
import type { Filter } from "./query-words.js";
import type { ServiceAddress } from "./service-address.js";
import { callPatiently, type CallTools, post, refusal } from "./service-call.js";

export interface QueryTools extends CallTools {
  progress: Progress;
}

export interface QueryRequest {
  text: string;
  namespace: string;
  /** Candidates taken from the index. */
  top: number;
  /** Results given back. */
  show: number;
  filter: Filter;
  embedder: ServiceAddress;
  index: ServiceAddress;
  /** Null when the environment has none. */
  reranker: ServiceAddress | null;
}

export interface QueryHit {
  id: string;
  source: string | null;
  line: number | null;
  heading: string | null;
  vectorScore: number;
  /** Null when the results were not reranked. */
  rerankScore: number | null;
  text: string;
}

export interface QueryResult {
  query: string;
  namespace: string;
  candidates: number;
  reranked: boolean;
  hits: readonly QueryHit[];
  /** Milliseconds; null for a stage that did not take place. */
  timings: { embed: number; search: number; rerank: number | null; total: number };
  devices: { embedder: string | null; index: string | null; reranker: string | null };
}

const patience = ms(60_000);
const base = "/api/v1/vector-store";

/** Embeds a question, finds the nearest chunks, reranks them. Without a reranker the order of the search stands, and is said to. */
export async function query(tools: QueryTools, request: QueryRequest): Promise<QueryResult> {
  const { clock } = tools;
  const began = clock.monotonic();
  const embedded = await embed(tools, request);
  const embeddedAt = clock.monotonic();
  const searched = await search(tools, request, embedded.vector);
  const searchedAt = clock.monotonic();
  if (searched.hits.length === 0) await refuseEmptyIndex(tools, request);
  const reranked = await rerank(tools, request, searched.hits);
  const ended = clock.monotonic();
  return {
    query: request.text,
    namespace: request.namespace,
    candidates: searched.hits.length,
    reranked: reranked !== null,
    hits: (reranked?.hits ?? searched.hits).slice(0, request.show),
    timings: {
      embed: embeddedAt - began,
      search: searchedAt - embeddedAt,
      rerank: reranked === null ? null : ended - searchedAt,
      total: ended - began,
    },
    devices: { embedder: embedded.device, index: searched.device, reranker: reranked?.device ?? null },
  };
}

async function embed(tools: QueryTools, request: QueryRequest): Promise<{ vector: readonly number[]; device: string | null }> {
  const body = { inputs: [request.text], truncate: true, prompt_name: "query" } satisfies EmbedBody;
  const call = { service: "embedder", address: request.embedder, path: "/embed", body, timeout: patience } as const;
  const answer = await callPatiently(tools, call);
  const vector: unknown = Array.isArray(answer.body) ? answer.body[0] : undefined;
  if (!Array.isArray(vector)) throw refusal(call, answer);
  return { vector: vector as number[], device: deviceOf(answer) };
}

async function search(
  tools: QueryTools,
  request: QueryRequest,
  vector: readonly number[],
): Promise<{ hits: QueryHit[]; device: string | null }> {
  const filter = Object.keys(request.filter).length > 0 ? { filter: request.filter } : {};
  const body = { namespace: request.namespace, vector, k: request.top, ...filter } satisfies Search;
  const answer = await callPatiently(tools, {
    service: "index",
    address: request.index,
    path: `${base}/search`,
    body,
    timeout: patience,
  });
  const results = field(answer.body, "results" satisfies keyof Found);
  const first: unknown = Array.isArray(results) ? results[0] : [];
  return { hits: Array.isArray(first) ? first.map(hitOf) : [], device: deviceOf(answer) };
}

function hitOf(found: unknown): QueryHit {
  const metadata = field(found, "metadata" satisfies keyof Hit);
  const [source, line, heading, text] = [
    field(metadata, "source"),
    field(metadata, "line"),
    field(metadata, "heading"),
    field(found, "text" satisfies keyof Hit),
  ];
  return {
    id: String(field(found, "id" satisfies keyof Hit)),
    source: typeof source === "string" ? source : null,
    line: typeof line === "number" ? line : null,
    heading: typeof heading === "string" && heading !== "" ? heading : null,
    vectorScore: Number(field(found, "score" satisfies keyof Hit)),
    rerankScore: null,
    text: typeof text === "string" ? text : "",
  };
}

/** Null when there is nothing to rerank or nobody to do it: a search without reranking is better than no answer. */
async function rerank(
  tools: QueryTools,
  request: QueryRequest,
  hits: readonly QueryHit[],
): Promise<{ hits: QueryHit[]; device: string | null } | null> {
  if (request.reranker === null || hits.length === 0) return null;
  const documents = hits.map(({ text, source }) => ({ content: text, metadata: { source } }));
  const body = { query: request.text, documents } satisfies RerankBody;
  const call = { service: "reranker", address: request.reranker, path: "/rerank", body, timeout: patience } as const;
  try {
    const answer = await post(tools, call);
    if (answer.status !== 200) throw refusal(call, answer);
    const stoodIn = substituteOf(answer);
    if (stoodIn !== null) tools.progress.emit({ kind: "warning", text: `${stoodIn}; gpuctl health says why` });
    return { hits: inOrderOf(answer, hits), device: deviceOf(answer) };
  } catch (error) {
    if (!(error instanceof GpuctlError) || tools.signal.aborted) throw error;
    const why = error.because === undefined ? error.message : `${error.message}: ${error.because}`;
    tools.progress.emit({ kind: "warning", text: `not reranked, the order is that of the vector search (${why})` });
    return null;
  }
}

/** What a reranker says of itself while it cannot run as it should; null when it does. */
function substituteOf({ headers }: HttpResponse): string | null {
  const [model, ranked] = [headers["x-gpuctl-fallback"], headers["x-gpuctl-ranked"]?.split("/")];
  const who =
    model === undefined ? "a CPU ranks in place of a GPU" : `the smaller model ${model} ranks in place of the reranker's own`;
  if (ranked !== undefined)
    return `${who}, and ranked ${ranked[0] ?? "0"} of ${ranked[1] ?? "0"} candidates: the others follow in the order of the vector search`;
  return model === undefined ? null : who;
}

function inOrderOf(answer: HttpResponse, hits: readonly QueryHit[]): QueryHit[] {
  const results = field(answer.body, "results" satisfies keyof Reranked);
  if (!Array.isArray(results)) throw new Failed("the reranker's answer cannot be used", { because: "it has no results" });
  return results.flatMap((result) => {
    const hit = hits[Number(field(result, "index" satisfies keyof Result))];
    const score = field(result, "relevance_score" satisfies keyof Result);
    return hit === undefined ? [] : [{ ...hit, rerankScore: Number(score) }];
  });
}

async function refuseEmptyIndex(tools: QueryTools, request: QueryRequest): Promise<void> {
  const stats = await ask(tools, { service: "index", address: request.index }, `${base}/stats`);
  const items = Number(field(field(stats, "namespaces"), request.namespace) ?? 0);
  if (items > 0) return;
  throw new Failed(`there is nothing to search in namespace ${request.namespace}`, {
    because: "the index has no items there",
    nextSteps: ["gpuctl index add DIRECTORY", `gpuctl query ${JSON.stringify(request.text)}`],
  });
}

const deviceOf = (answer: HttpResponse): string | null => answer.headers["x-gpuctl-device"] ?? null;
