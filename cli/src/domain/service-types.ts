/** Generated from compose/services/openapi by `npm run generate`: what the services take and answer. */

/** `POST add`. */
export interface Add {
  items: readonly Item[];
  namespace?: string;
  upsert?: boolean;
}

/** What an add did; `sequence` is the number of the change. */
export interface Added {
  added: number;
  updated: number;
  sequence: number;
}

/** The process answers. */
export interface Alive {
  status: "alive";
}

/** Cohere's counting. */
export interface BilledUnits {
  search_units: number;
}

/** Cohere's counting. */
export interface CohereTokens {
  input_tokens: number;
}

/** `POST delete`. */
export interface Delete {
  ids: readonly (string | number)[];
  namespace?: string;
}

/** What a delete did. */
export interface Deleted {
  deleted: number;
  sequence: number;
}

/** `POST /embed`, as TEI has it. */
export interface EmbedBody {
  inputs: string | readonly string[];
  truncate?: boolean | null;
  truncation_direction?: "left" | "right" | "Left" | "Right" | null;
  normalize?: boolean | null;
  prompt_name?: string | null;
  dimensions?: number | null;
}

/** One vector: numbers, or base64 of little-endian float32. */
export interface Embedding {
  object: "embedding";
  index: number;
  embedding: readonly number[] | string;
}

/** OpenAI's answer. */
export interface Embeddings {
  object: "list";
  data: readonly Embedding[];
  model: string;
  usage: Usage;
}

/** TEI's two keys, OpenAI's words, and Cohere's `message`, whatever the route. `error` is a text on TEI's routes and OpenAI's object below `/v1/`. */
export interface ServiceError {
  error: string | OpenAiError;
  error_type: string;
  message: string;
  type: string;
  param: string | null;
  code: string;
}

/** The best of each query, by score, then id. */
export interface Found {
  device: string;
  indexType: string;
  results: readonly (readonly Hit[])[];
}

/** `POST items/get`. */
export interface Get {
  ids: readonly (string | number)[];
  namespace?: string;
  include?: readonly ("metadata" | "text" | "vector")[];
  encoding?: "base64" | "float";
}

/** The items that are there, and the ids of those that are not. */
export interface Got {
  namespace: string;
  items: readonly Readonly<Record<string, unknown>>[];
  missing: readonly (string | number)[];
}

/** One result; text, metadata and vector as `include` asks for. */
export interface Hit {
  id: string | number;
  score: number;
  text?: string | null;
  metadata?: Readonly<Record<string, unknown>>;
  vector?: readonly number[] | null;
  vectorBase64?: string | null;
}

/** Of an index: what its GPU's copy does. */
export interface IndexHealth {
  status: "degraded" | "failed" | "healthy" | "loading";
  device: "cpu" | "cuda" | "mps" | null;
  model: string | null;
  service: string;
  reason: string | null;
  device_reason: string | null;
  replica: ReplicaFacts | null;
}

/** What is served, by what. */
export interface IndexInfo {
  service: string;
  version: string;
  state: string;
  status: string;
  device: string | null;
  device_reason: string | null;
  reason: string | null;
  replica: ReplicaFacts | null;
  engine: string;
  indexType: string;
  metric: string;
  dimension: number | null;
  generation: string | null;
  writer: boolean;
  max_items: number;
  aliases: readonly string[];
  warnings: readonly string[];
}

/** One item of an add. */
export interface Item {
  id: string | number;
  vector?: readonly number[] | null;
  vectorBase64?: string | null;
  text?: string | null;
  metadata?: Readonly<Record<string, unknown>>;
}

/** One piece of long work. */
export interface JobFacts {
  job: string;
  kind: string;
  state: "done" | "failed" | "running" | "waiting";
  phase: string;
  done: number;
  of: number;
  seconds: number;
  result: Readonly<Record<string, unknown>> | null;
  error: string | null;
}

/** The latest jobs. */
export interface Jobs {
  jobs: readonly JobFacts[];
}

/** Id -> metadata of the items that are there. */
export interface LookedUp {
  items: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

/** `POST items/lookup`. */
export interface Lookup {
  namespace?: string;
  ids?: readonly (string | number)[] | null;
  filter?: Readonly<Record<string, unknown>> | null;
}

/** What Cohere's clients read. */
export interface Meta {
  billed_units: BilledUnits;
  tokens: CohereTokens;
}

/** OpenAI's entry of a model. */
export interface Model {
  id: string;
  object: "model";
  created: number;
  owned_by: string;
}

/** Of a service with a model: which state its engines are in. */
export interface ModelHealth {
  status: "degraded" | "failed" | "healthy" | "loading";
  device: "cpu" | "cuda" | "mps" | null;
  model: string | null;
  service: string;
  reason: string | null;
  device_reason: string | null;
  state: "degraded" | "failed" | "loading" | "ready" | "recovering";
  fallback: boolean;
}

/** TEI's `/info` and more. */
export interface ModelInfo {
  service: string;
  version: string;
  state: string;
  status: string;
  model_id: string | null;
  model_sha: string | null;
  model_dtype: string | null;
  served_model_name: string | null;
  model_type: Readonly<Record<string, unknown>> | null;
  max_input_length: number;
  max_batch_tokens: number;
  max_queue_tokens: number;
  max_client_batch_size: number;
  max_concurrent_requests: number;
  max_batch_requests: number | null;
  sha: string | null;
  docker_label: string | null;
  auto_truncate: boolean;
  tokenization_workers: number;
  device: string | null;
  device_reason: string | null;
  reason: string | null;
  fallback: unknown;
  engines: readonly Readonly<Record<string, unknown>>[];
  engine: string | null;
  providers: readonly string[];
  threads: number;
  revision: string | null;
  artifact_sha256: string | null;
  dimension: number | null;
  generation: string | null;
  licence: string | null;
  scoring: "bi-encoder" | "cross-encoder" | null;
}

/** OpenAI's list of models: the one that is served. */
export interface Models {
  object: "list";
  data: readonly Model[];
}

/** One stored item. */
export interface OneItem {
  namespace: string;
  id: string | number;
  text: string | null;
  metadata: Readonly<Record<string, unknown>>;
  sequence: number;
}

/** `POST /v1/embeddings`, as OpenAI has it. `model` and `user` are accepted and not compared. `truncate` is ours: false refuses a text that does not fit, where OpenAI's own service always does. */
export interface OpenAiBody {
  input: string | readonly string[];
  model?: string | null;
  encoding_format?: "float" | "base64" | null;
  dimensions?: number | null;
  truncate?: boolean | null;
  user?: unknown;
}

/** What OpenAI's clients read. */
export interface OpenAiError {
  message: string;
  type: string;
  param: string | null;
  code: string;
}

/** One token and where it is in its text, in characters; special tokens are nowhere in it. */
export interface Piece {
  id: number;
  special: boolean;
  start: number | null;
  stop: number | null;
  text: string;
}

/** One text's place, in TEI's shape. */
export interface Rank {
  index: number;
  score: number;
  text?: string;
}

/** Whether it would answer now. */
export interface Ready {
  status: "not-ready" | "ready";
  reason: string | null;
}

/** `POST namespaces/remove`. */
export interface Remove {
  namespace: string;
  wait?: boolean;
}

/** `POST namespaces/rename`. */
export interface Rename {
  from: string;
  to: string;
  keep?: string | null;
}

/** How many items have the name now. */
export interface Renamed {
  items: number;
  sequence: number;
}

/** The GPU's copy of the index. In every state but `searching` the CPU answers. */
export interface ReplicaFacts {
  state: "copying" | "failed" | "off" | "searching" | "starting" | "waiting";
  device: "cuda" | null;
  since: string;
  reason: string | null;
  detail: string | null;
  retry_in_seconds: number | null;
}

/** Every dialect at once. Exactly one of `texts` and `documents` is given. */
export interface RerankBody {
  query: string;
  texts?: readonly string[] | null;
  documents?: readonly (string | { text: string } | { content: string; metadata?: Readonly<Record<string, unknown>> })[] | null;
  truncate?: boolean | null;
  truncation_direction?: "left" | "right" | "Left" | "Right" | null;
  raw_scores?: boolean | null;
  return_text?: boolean | null;
  return_documents?: boolean | null;
  top_n?: number | null;
  max_tokens_per_doc?: number | null;
  model?: string | null;
}

/** Superset of Jina's, Cohere's and the app's answers. */
export interface Reranked {
  id: string;
  object: "rerank";
  model: string;
  device: string | null;
  results: readonly Result[];
  usage: Usage;
  meta: Meta;
  fallback?: boolean;
  ranked?: number;
}

/** One document's place. `document` is what was given: a text as `{"text": ...}`, an object as it was. */
export interface Result {
  index: number;
  relevance_score: number;
  score: number;
  document?: Readonly<Record<string, unknown>>;
}

/** `POST search`. */
export interface Search {
  namespace?: string;
  vector?: readonly number[] | null;
  vectorBase64?: string | null;
  vectors?: readonly (readonly number[])[] | null;
  vectorsBase64?: readonly string[] | null;
  text?: string | null;
  texts?: readonly string[] | null;
  k?: number;
  filter?: Readonly<Record<string, unknown>> | null;
  nprobe?: number | null;
  recall?: number | null;
  include?: readonly ("metadata" | "text" | "vector")[];
  encoding?: "base64" | "float";
}

/** What is compared with what. */
export interface Sentences {
  source_sentence: string;
  sentences: readonly string[];
}

/** `POST /similarity`, as TEI has it. */
export interface SimilarityBody {
  inputs: Sentences;
  parameters?: SimilarityParameters | null;
}

/** How the sentences are read. */
export interface SimilarityParameters {
  truncate?: boolean | null;
  truncation_direction?: string | null;
  prompt_name?: string | null;
}

/** The different texts under a key, in order. */
export interface TextValues {
  values: readonly string[];
}

/** `POST /tokenize`, as TEI has it. */
export interface TokenizeBody {
  inputs: string | readonly string[];
  add_special_tokens?: boolean | null;
  prompt_name?: string | null;
}

/** Whether a proxy should send requests here. */
export interface TrafficGate {
  status: "closed" | "not-ready" | "open" | "paused";
  reason: string | null;
}

/** Tokens that the model worked on, after truncation. */
export interface Usage {
  prompt_tokens: number;
  total_tokens: number;
}

/** `POST items/values`. */
export interface Values {
  key: string;
  namespace?: string;
  prefix?: string;
}

/** Body of the routes without other fields. */
export interface Wait {
  wait?: boolean;
}
