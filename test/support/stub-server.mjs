/**
 * A service with known delays and known faults, as a process of its own: what the bench must report is decided here.
 * Started with one JSON argument, see `StubOptions` in stub-server.ts; prints `{"port": n}` and then serves until killed.
 */
import { createServer } from "node:http";

const options = {
  delayMs: 0,
  slowShare: 0,
  slowMs: 0,
  faultEvery: 0,
  fault: "none",
  devices: ["cpu"],
  dimension: 8,
  ...JSON.parse(process.argv[2] ?? "{}"),
};

let served = 0;

/** The same text always gets the same unit vector. */
function vectorOf(text) {
  let h = 2166136261;
  const values = [];
  for (let i = 0; i < options.dimension; i += 1) {
    for (let c = 0; c < text.length; c += 1) h = Math.imul(h ^ (text.charCodeAt(c) + i), 16777619);
    values.push(((h >>> 8) & 0xffff) / 0x8000 - 1);
  }
  const norm = Math.hypot(...values) || 1;
  return values.map((value) => value / norm);
}

const base64 = (vector) => Buffer.from(Float32Array.from(vector).buffer).toString("base64");

function embeddings(body, fault) {
  const vectors = body.input.map(vectorOf);
  if (fault === "zero-vectors") vectors.forEach((vector) => vector.fill(0));
  if (fault === "nan") vectors[0][0] = NaN;
  if (fault === "wrong-dimension") vectors.forEach((vector) => vector.pop());
  if (fault === "missing-item") vectors.pop();
  if (fault === "wrong-order") vectors.reverse();
  const data = vectors.map((vector, index) => ({ object: "embedding", index, embedding: base64(vector) }));
  if (fault === "wrong-index") data.reverse();
  const tokens = body.input.length * 10;
  return { object: "list", data, model: "stub", usage: { prompt_tokens: tokens, total_tokens: tokens } };
}

function rerank(body, fault) {
  const scored = body.documents.map((document, index) => ({
    index,
    relevance_score: (vectorOf(document.content ?? document)[0] + 1) / 2,
  }));
  scored.sort((a, b) => b.relevance_score - a.relevance_score);
  if (fault === "wrong-order") scored.reverse();
  if (fault === "missing-item") scored.pop();
  if (fault === "wrong-index" && scored.length > 1) scored[0].index = scored[1].index;
  if (fault === "nan") scored[0].relevance_score = null;
  return { model: "stub", device: "cpu", results: scored, usage: { total_tokens: body.documents.length * 20 } };
}

function search(body, fault) {
  const hits = Array.from({ length: Math.min(body.k, 100) }, (_, n) => ({
    id: `doc.md#${n}`,
    score: 0.9 - n * 0.005,
    text: "",
    metadata: {},
  }));
  if (fault === "wrong-order") hits.reverse();
  if (fault === "missing-item") hits.pop();
  if (fault === "wrong-index" && hits.length > 1) hits[0].id = hits[1].id;
  if (fault === "nan") hits[0].score = null;
  return { device: "cpu", indexType: "Flat", results: [hits] };
}

function answerFor(path, body, fault) {
  if (path === "/info")
    return { model_id: "stub/model", model_sha: "r1", model: "stub/model", revision: "r1", dimension: options.dimension };
  if (path === "/v1/embeddings") return embeddings(body, fault);
  if (path === "/rerank") return rerank(body, fault);
  if (path.endsWith("/search")) return search(body, fault);
  if (path.endsWith("/stats"))
    return { items: 100, namespaces: { default: 100 }, dimension: options.dimension, device: "cpu", indexType: "Flat" };
  return { ok: true };
}

function respond(request, response, text) {
  const path = request.url;
  const work = request.method === "POST";
  const ordinal = work ? served++ : -1;
  const faulty = work && options.faultEvery > 0 && ordinal % options.faultEvery === options.faultEvery - 1;
  const fault = faulty ? options.fault : "none";
  // The slow ones are spread evenly: every window of n requests holds the same share.
  const slow = work && Math.floor((ordinal + 1) * options.slowShare) > Math.floor(ordinal * options.slowShare);
  const delay = work ? (slow ? options.slowMs : options.delayMs) : 0;
  if (fault === "reset") return void request.socket.resetAndDestroy();
  if (fault === "hang") return;
  const status = fault === "http-503" ? 503 : 200;
  const body = Buffer.from(JSON.stringify(answerFor(path, text === "" ? {} : JSON.parse(text), fault)));
  const headers = {
    "content-type": "application/json",
    "x-gpuctl-device": options.devices[Math.max(0, ordinal) % options.devices.length],
    "content-length": body.length,
  };
  const asked = request.headers["cache-control"] ?? "";
  if (options.ranked !== undefined) headers["x-gpuctl-ranked"] = options.ranked;
  if (options.cache === "stubborn" || (options.cache === "polite" && asked !== "no-store")) headers["x-gpuctl-cache"] = "1/4";
  const finish = () => {
    response.writeHead(status, headers);
    if (fault === "short-body") {
      response.write(body.subarray(0, body.length >> 1), () => request.socket.end());
      return;
    }
    response.end(body);
  };
  if (delay > 0) setTimeout(finish, delay);
  else finish();
}

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => respond(request, response, Buffer.concat(chunks).toString("utf8")));
});
server.keepAliveTimeout = 60_000;
server.listen(0, "127.0.0.1", 2048, () => process.stdout.write(`${JSON.stringify({ port: server.address().port })}\n`));

// Ends with whoever started it, however that one ended.
process.stdin.on("end", () => process.exit(0)).resume();
