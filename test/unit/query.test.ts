import { beforeEach, describe, expect, it } from "vitest";
import { query, type QueryResult } from "../../cli/src/app/query.js";
import { parseFilter, parseQuestion } from "../../cli/src/app/query-words.js";
import { queryText } from "../../cli/src/app/render/query-text.js";
import { ms } from "../../cli/src/domain/units.js";
import type { ProgressEvent } from "../../cli/src/ports.js";
import { RetrievalServices } from "../fakes/retrieval-services.js";

let services: RetrievalServices;
let events: ProgressEvent[];

beforeEach(() => {
  services = new RetrievalServices();
  events = [];
});

function store(count: number): void {
  for (let n = 0; n < count; n += 1) {
    const id = `docs/guide.md#${String(n)}`;
    const metadata = { source: "docs/guide.md", line: 10 * n + 1, heading: "Guide" };
    services.items.set(id, { id, text: `Guide\n\nPiece ${String(n)} of\nthe guide.`, metadata });
  }
}

function ask(reranker: boolean, show = 10): Promise<QueryResult> {
  let now = 0;
  const tools = {
    http: services,
    clock: { now: () => new Date(0), monotonic: () => ms((now += 2.5)), sleep: () => Promise.resolve() },
    progress: { emit: (event: ProgressEvent) => void events.push(event) },
    signal: new AbortController().signal,
  };
  const at = (service: string): { base: string; headers: Record<string, string> } => ({ base: `http://${service}`, headers: {} });
  const addresses = { embedder: at("embedder"), index: at("index"), reranker: reranker ? at("reranker") : null };
  return query(tools, { text: "how?", namespace: "default", top: 30, show, filter: {}, ...addresses });
}

describe("query", () => {
  it("shows the reranker's order with both scores and the place", async () => {
    store(3);
    const result = await ask(true);
    expect(result).toMatchObject({ candidates: 3, reranked: true, devices: { embedder: "cpu", index: "cpu", reranker: "cpu" } });
    expect(result.hits.map(({ line }) => line)).toEqual([21, 11, 1]);
    expect(result.hits[0]).toMatchObject({ source: "docs/guide.md", rerankScore: 1, vectorScore: 0.7 });
  });

  it("answers in the order of the search when the reranker is down, and says so", async () => {
    store(3);
    services.down = ["reranker"];
    const result = await ask(true);
    expect(result).toMatchObject({ reranked: false, timings: { rerank: null } });
    expect(result.hits.map(({ line }) => line)).toEqual([1, 11, 21]);
    expect(events).toEqual([
      {
        kind: "warning",
        text: "not reranked, the order is that of the vector search (the reranker at http://reranker does not answer: nothing listens there)",
      },
    ]);
  });

  it("does the same when the reranker refuses, and when there is none it does not warn", async () => {
    store(2);
    services.interruptions = [{ path: "/rerank", status: 500 }];
    expect(await ask(true)).toMatchObject({ reranked: false });
    expect(events).toHaveLength(1);
    expect(await ask(false)).toMatchObject({ reranked: false });
    expect(events).toHaveLength(1);
  });

  it("says how many candidates a substitute ranked, and which model it is", async () => {
    store(3);
    const results = [2, 0, 1].map((index, n) => ({ index, relevance_score: 0.9 - n / 10 }));
    const headers = { "x-gpuctl-device": "cpu", "x-gpuctl-fallback": "acme/small", "x-gpuctl-ranked": "1/3" };
    services.interruptions = [{ path: "/rerank", status: 200, headers, body: { results } }];
    expect(await ask(true)).toMatchObject({ reranked: true });
    expect(events).toEqual([
      {
        kind: "warning",
        text: "the smaller model acme/small ranks in place of the reranker's own, and ranked 1 of 3 candidates: the others follow in the order of the vector search; gpuctl health says why",
      },
    ]);
  });

  it("names the next command when the index is empty", async () => {
    await expect(ask(true)).rejects.toMatchObject({
      message: "there is nothing to search in namespace default",
      nextSteps: ["gpuctl index add DIRECTORY", 'gpuctl query "how?"'],
    });
  });

  it("without an embedder there is no answer", async () => {
    services.down = ["embedder"];
    await expect(ask(true)).rejects.toMatchObject({ exit: "targetUnreachable" });
  });
});

describe("what is typed", () => {
  it("a filter finds numbers and booleans as well as their text", () => {
    expect(parseFilter(["source=a=b.md", "line=41", "public=true"])).toEqual({
      source: "a=b.md",
      line: ["41", 41],
      public: ["true", true],
    });
    expect(() => parseFilter(["source"])).toThrow("--filter source is no condition");
    expect(() => parseQuestion("  ")).toThrow("the question is empty");
  });
});

describe("the answer on a terminal", () => {
  it("has a rank, a place, scores and a line of text, and the stages below", async () => {
    store(2);
    expect(queryText(await ask(true), 60)).toBe(
      [
        "1  docs/guide.md:11  rerank 1.000  vector 0.800  Guide",
        "   Piece 1 of the guide.",
        "2  docs/guide.md:1  rerank 0.500  vector 0.900  Guide",
        "   Piece 0 of the guide.",
        "",
        "2 of 2 candidates  embed 5.0 ms (cpu)  search 5.0 ms (cpu)  rerank 2.5 ms (cpu)  total 12.5 ms",
      ].join("\n"),
    );
  });

  it("never breaks a line of the terminal", async () => {
    store(1);
    const lines = queryText(await ask(false), 30).split("\n");
    expect(lines.slice(0, 2).every((line) => Array.from(line).length <= 30)).toBe(true);
    expect(lines[0]).toMatch(/…$/);
  });
});
