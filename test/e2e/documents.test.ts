/**
 * `index add` and `query` over this project's own documentation, with the real services and the real model: the answers that
 * the quickstart promises, and what happens when documents change, go, or the command is cut short.
 */
import { cpSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { IndexAddResult } from "../../cli/src/app/index-add.js";
import type { QueryResult } from "../../cli/src/app/query.js";
import { repository, Sandbox } from "../support/sandbox.js";

let sandbox: Sandbox;

beforeAll(async () => {
  sandbox = await Sandbox.create({ soak: "1s" });
  for (const name of ["README.md", "docs"]) cpSync(join(repository, name), join(sandbox.directory, name), { recursive: true });
  await sandbox.result(["deploy"]);
}, 180_000);

afterAll(() => sandbox.close());

const add = async (...paths: string[]): Promise<IndexAddResult> =>
  (await sandbox.result(["index", "add", ...paths])) as IndexAddResult;

const ask = async (question: string, ...flags: string[]): Promise<QueryResult> =>
  (await sandbox.result(["query", question, ...flags])) as QueryResult;

describe("this project's own documentation", () => {
  it("an index without documents says what to type", async () => {
    const { code, document } = await sandbox.json(["query", "how do I go back?"]);
    expect(code).toBe(1);
    expect(document.error).toMatchObject({ message: "there is nothing to search in namespace default" });
    expect(document.error?.nextSteps?.[0]).toBe("gpuctl index add DIRECTORY");
  });

  it("goes on from where a Ctrl-C cut it short", async () => {
    const cut = sandbox.start(["index", "add", "README.md", "docs", "--batch", "1"]);
    await cut.saysOnStderr(/index add {2}?\s*\d+ % {2}[1-9]/);
    cut.child.kill("SIGINT");
    expect(await cut.ended).toMatchObject({ code: 130 });
    const rest = await add("README.md", "docs");
    expect(rest.unchanged).toBeGreaterThan(0);
    expect(rest.added).toBeGreaterThan(0);
    expect(rest.added + rest.unchanged).toBe(rest.chunks);
    expect(rest).toMatchObject({ skipped: [], truncated: 0, deleted: 0 });
  });

  it("is left alone the second time", async () => {
    const again = await add("README.md", "docs");
    expect(again).toMatchObject({ added: 0, updated: 0, deleted: 0, unchanged: again.chunks });
  });

  it.each([
    ["how do I go back to the previous release?", "docs/guides/rollback.md"],
    ["why is my benchmark invalid?", "docs/guides/benchmarks.md"],
    ["the GPU is there but the service does not use it", "docs/guides/troubleshooting.md"],
  ])("%s is answered from %s", async (question, source) => {
    const { hits, reranked, devices, timings } = await ask(question);
    expect(hits.map((hit) => hit.source)[0]).toBe(source);
    expect(hits).toHaveLength(10);
    expect(hits[0]?.line).toBeGreaterThan(0);
    expect(hits.map((hit) => hit.rerankScore)).toEqual(
      hits.map((hit) => hit.rerankScore).toSorted((a, b) => (b ?? 0) - (a ?? 0)),
    );
    expect({ reranked, devices }).toEqual({ reranked: true, devices: { embedder: "cpu", index: "cpu", reranker: "cpu" } });
    expect(timings.total).toBeGreaterThan(0);
  });

  it("people see the file, the line, the scores and how long each stage took", async () => {
    const { stdout } = await sandbox.run(["query", "why is my benchmark invalid?", "--show", "1"]);
    expect(stdout).toMatch(/^1 {2}docs\/guides\/benchmarks\.md:\d+ {2}rerank \d\.\d{3} {2}vector \d\.\d{3} /);
    expect(stdout).toMatch(
      /1 of 30 candidates {2}embed .* ms \(cpu\) {2}search .* ms \(cpu\) {2}rerank .* ms \(cpu\) {2}total .* ms\n$/,
    );
  });

  it("what a document no longer says is not found any more, and neither is a document that is gone", async () => {
    const marker = "Wombats calibrate the flux capacitor on the third Tuesday.";
    writeFileSync(join(sandbox.directory, "docs/wombat.md"), `# Wombats\n\n${marker}\n`);
    expect(await add("docs")).toMatchObject({ added: 1, deleted: 0 });
    expect((await ask(marker)).hits[0]).toMatchObject({ source: "docs/wombat.md", line: 3 });
    rmSync(join(sandbox.directory, "docs/wombat.md"));
    rmSync(join(sandbox.directory, "README.md"));
    expect(await add("docs")).toMatchObject({ added: 0, updated: 0, deleted: 1, filesGone: 1 });
    const sources = (await ask(marker)).hits.map((hit) => hit.source);
    expect(sources).not.toContain("docs/wombat.md");
    // README.md was not below the directory that was given.
    expect((await ask("What works today", "--filter", "source=README.md")).hits.length).toBeGreaterThan(0);
  });
});
