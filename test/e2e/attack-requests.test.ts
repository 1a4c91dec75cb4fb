import http from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Sandbox } from "../support/sandbox.js";
import { servingPid } from "../support/serving.js";

describe("requests that should not work", () => {
  let sandbox: Sandbox;
  let pids: number[];

  beforeAll(async () => {
    sandbox = await Sandbox.create({ soak: "1s" });
    sandbox.writeConfig({ soak: "1s", options: { embedder: "options: { maxQueueTokens: 512 }" } });
    await sandbox.result(["deploy"]);
    pids = await Promise.all(["embedder", "reranker", "index"].map((service) => servingPid(sandbox, service)));
  }, 120_000);

  afterAll(async () => {
    await sandbox.close();
  });

  const raw = (
    service: "embedder" | "reranker" | "index",
    path: string,
    body: string | Buffer,
  ): Promise<{ status: number; text: string; headers: http.IncomingHttpHeaders }> =>
    new Promise((resolve, reject) => {
      const request = http.request(
        sandbox.url(service, path),
        {
          method: "POST",
          headers: { "content-type": "application/json", "content-length": Buffer.byteLength(body) },
          agent: false,
        },
        (response) => {
          let text = "";
          response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
          response.on("end", () => {
            resolve({ status: response.statusCode ?? 0, text, headers: response.headers });
          });
        },
      );
      // A refused body is answered before it was read: the write side may break then, and the answer still arrives.
      request.on("error", (error: NodeJS.ErrnoException) => {
        if (error.code !== "EPIPE" && error.code !== "ECONNRESET") reject(error);
        else
          setTimeout(() => {
            reject(error);
          }, 2000);
      });
      request.end(body);
    });

  const vectorAdd = "/api/v1/vector-store/add";
  const cases: [string, "embedder" | "reranker" | "index", string, string][] = [
    ["invalid JSON", "embedder", "/embed", '{"inputs": ["a"'],
    ["invalid JSON", "index", vectorAdd, "{"],
    ["wrong types", "embedder", "/embed", '{"inputs": {"a": 1}}'],
    ["wrong types", "reranker", "/rerank", '{"query": 7, "texts": ["a"]}'],
    ["wrong types", "index", vectorAdd, '{"items": "no"}'],
    ["a lone surrogate", "embedder", "/embed", String.raw`{"inputs": ["\ud800"]}`],
    ["a lone surrogate", "reranker", "/rerank", String.raw`{"query": "\ud800", "texts": ["a"]}`],
    ["a lone surrogate", "index", vectorAdd, String.raw`{"items":[{"id":"\ud800","text":"a"}]}`],
    [
      "10,000 documents",
      "reranker",
      "/rerank",
      JSON.stringify({ query: "q", texts: Array.from({ length: 10_000 }, (_, n) => `text ${String(n)}`) }),
    ],
    ["10,000 texts", "embedder", "/embed", JSON.stringify({ inputs: Array.from({ length: 10_000 }, () => "a") })],
    ["an empty list", "embedder", "/embed", '{"inputs": []}'],
    ["an empty list", "reranker", "/rerank", '{"query": "q", "documents": []}'],
    ["an empty list", "index", vectorAdd, '{"items": []}'],
    ["an empty query", "reranker", "/rerank", '{"query": "", "texts": ["a"]}'],
    ["token ids", "embedder", "/v1/embeddings", '{"model": "m", "input": [[1, 2, 3]]}'],
    ["an empty body", "embedder", "/embed", ""],
  ];

  test.each(cases)("%s to %s%s is a 4xx that says what is wrong", async (_what, service, path, body) => {
    const answer = await raw(service, path, body);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.status).toBeLessThan(500);
    const parsed = JSON.parse(answer.text) as Record<string, unknown>;
    expect(JSON.stringify(parsed).length).toBeGreaterThan(40);
  });

  test.each(["embedder", "reranker", "index"] as const)("a 50 MB body to the %s is refused with 413", async (service) => {
    const path = { embedder: "/embed", reranker: "/rerank", index: vectorAdd }[service];
    const answer = await raw(service, path, Buffer.alloc(50 * 1024 * 1024, 0x20));
    expect(answer.status).toBe(413);
    expect(answer.text).toMatch(/bytes|MiB|limit/i);
  });

  test("200 parallel requests against a small queue: answers or 429 with Retry-After, never a crash", async () => {
    const text = Array.from({ length: 100 }, (_, n) => `word${String(n)}`).join(" ");
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, n) => raw("embedder", "/embed", JSON.stringify({ inputs: [`${String(n)} ${text}`] }))),
    );
    const statuses = new Set(answers.map(({ status }) => status));
    expect([...statuses].toSorted()).toEqual([200, 429]);
    for (const { headers } of answers.filter(({ status }) => status === 429))
      expect(Number(headers["retry-after"])).toBeGreaterThan(0);
  }, 60_000);

  test("after all of that the same three processes answer", async () => {
    expect((await sandbox.post("embedder", "/embed", { inputs: ["fine"] })).status).toBe(200);
    expect((await sandbox.post("reranker", "/rerank", { query: "fine", texts: ["fine", "not"] })).status).toBe(200);
    expect(await Promise.all(["embedder", "reranker", "index"].map((service) => servingPid(sandbox, service)))).toEqual(pids);
  });
});
