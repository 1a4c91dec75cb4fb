import type { OpenAiBody } from "../domain/service-types.js";
import type { Corpus } from "./corpus.js";
import { field, notJson, parsed, reportedTokens, type Workload } from "./workload.js";

/**
 * Texts through the OpenAI route with base64 vectors: a third of the bytes of JSON numbers, so that the wire and the
 * client measure less and the service more. The answer carries its token count.
 * @param dimension what the service says of itself; null when it does not, then only equality within an answer is checked
 */
export function embedWorkload(corpus: Corpus, batch: number, dimension: number | null): Workload {
  const texts = (ordinal: number): string[] => Array.from({ length: batch }, (_, n) => corpus.passage(ordinal * batch + n));
  const asRequest = (input: readonly string[]): { path: string; body: string; items: number } => ({
    path: "/v1/embeddings",
    body: JSON.stringify({ input, model: "default", encoding_format: "base64" } satisfies OpenAiBody),
    items: input.length,
  });
  return {
    service: "embedder",
    unit: "texts",
    batch,
    request: (ordinal) => asRequest(texts(ordinal)),
    tokens: reportedTokens,
    check: (_ordinal, body) => {
      const vectors = vectorsOf(body);
      return typeof vectors === "string" ? [vectors] : checkVectors(vectors, batch, dimension);
    },
    again: (ordinal) => asRequest(texts(ordinal).reverse()),
    compare: (first, second) => compareReversed(vectorsOf(first), vectorsOf(second)),
  };
}

/** The vectors of an answer in the order of its texts, or what is wrong with the answer's form. */
export function vectorsOf(body: string): Float32Array[] | string {
  const answer = parsed(body);
  if (answer === null) return notJson;
  const data = field(answer, "data");
  if (!Array.isArray(data)) return "it has no data";
  const vectors: Float32Array[] = [];
  for (const [position, item] of data.entries()) {
    if (field(item, "index") !== position) return "its items are not in the order of their index";
    const vector = vectorOf(field(item, "embedding"));
    if (vector === null) return "an embedding is neither base64 nor a list of numbers";
    vectors.push(vector);
  }
  return vectors;
}

function vectorOf(embedding: unknown): Float32Array | null {
  if (Array.isArray(embedding)) return Float32Array.from(embedding, Number);
  if (typeof embedding !== "string") return null;
  const bytes = Buffer.from(embedding, "base64");
  if (bytes.length === 0 || bytes.length % 4 !== 0) return null;
  return Float32Array.from({ length: bytes.length / 4 }, (_, n) => bytes.readFloatLE(n * 4));
}

function checkVectors(vectors: readonly Float32Array[], batch: number, dimension: number | null): string[] {
  const problems = new Set<string>();
  if (vectors.length !== batch) problems.add(`it has ${String(vectors.length)} vectors for ${String(batch)} texts`);
  const wanted = dimension ?? vectors[0]?.length ?? 0;
  for (const vector of vectors) {
    if (vector.length !== wanted) problems.add(`a vector has ${String(vector.length)} dimensions instead of ${String(wanted)}`);
    const norm = Math.sqrt(dot(vector, vector));
    if (!Number.isFinite(norm)) problems.add("a vector holds numbers that are not finite");
    else if (norm < 1e-6) problems.add("a vector is all zeros");
    else if (Math.abs(norm - 1) > 0.01) problems.add("a vector is not of unit length");
  }
  return [...problems];
}

function compareReversed(first: Float32Array[] | string, second: Float32Array[] | string): string | null {
  if (typeof first === "string") return first;
  if (typeof second === "string") return second;
  const aligned = second.toReversed();
  const same = first.length === second.length && first.every((vector, n) => cosine(vector, aligned[n] ?? vector) > 0.999);
  return same ? null : "the same texts in reverse order did not get the same vectors in reverse order";
}

function cosine(a: Float32Array, b: Float32Array): number {
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let n = 0; n < a.length; n += 1) sum += (a[n] ?? 0) * (b[n] ?? 0);
  return sum;
}
