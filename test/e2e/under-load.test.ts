import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startSteadyLoad } from "../../scripts/steady-load.mjs";
import { Sandbox } from "../support/sandbox.js";

const documents = [
  "A rollback restores everything.",
  "The lease carries a fencing token.",
  "Cats sleep most of the day.",
  "The port is taken.",
];

describe("a deploy and a rollback of all three services while clients read and write", () => {
  let sandbox: Sandbox;

  beforeAll(async () => {
    sandbox = await Sandbox.create({ soak: "2s" });
    await sandbox.result(["deploy"]);
    const items = documents.map((text, n) => ({ id: `doc#${String(n)}`, text, metadata: { n } }));
    expect(await sandbox.post("index", "/api/v1/vector-store/add", { upsert: true, items })).toMatchObject({
      status: 200,
      body: { added: 4 },
    });
  }, 120_000);

  afterAll(async () => {
    await sandbox.close();
  });

  const load = (written: Set<string>): ReturnType<typeof startSteadyLoad> => {
    let n = 0;
    return startSteadyLoad(
      [
        { service: "embedder", url: sandbox.url("embedder", "/embed"), body: () => ({ inputs: [`text ${String((n += 1))}`] }) },
        {
          service: "reranker",
          url: sandbox.url("reranker", "/rerank"),
          body: () => ({ query: "what does a rollback do?", texts: documents }),
        },
        { service: "index", url: sandbox.url("index", "/api/v1/vector-store/search"), body: () => ({ text: "rollback", k: 2 }) },
        {
          service: "index write",
          url: sandbox.url("index", "/api/v1/vector-store/add"),
          body: () => {
            const id = `written#${String((n += 1))}`;
            written.add(id);
            return { upsert: true, items: [{ id, text: `note ${String(n)}` }] };
          },
        },
      ],
      16,
    );
  };

  const changed = {
    GPUCTL_SERVICES__EMBEDDER__OPTIONS__MAX_BATCH_TOKENS: "4096",
    GPUCTL_SERVICES__RERANKER__OPTIONS__MAX_BATCH_TOKENS: "4096",
    GPUCTL_SERVICES__INDEX__OPTIONS__MAX_ITEMS: "1000",
  };

  test.each([
    ["deploy", ["deploy"], changed, 30],
    // A warm rollback is over in little more than a second.
    ["rollback", ["rollback"], {}, 10],
  ] as const)(
    "%s: no request fails and no acknowledged write is lost",
    async (_what, args, env, atLeast) => {
      const written = new Set<string>();
      const running = load(written);
      await sandbox.result(args, env);
      const { ok, failed } = await running.stop();
      expect(failed).toEqual([]);
      expect(ok).toBeGreaterThan(atLeast);
      for (const id of written) {
        const answer = await fetch(sandbox.url("index", `/api/v1/vector-store/items/${encodeURIComponent(id)}`));
        expect(answer.status, id).toBe(200);
      }
    },
    120_000,
  );

  test("a rollback to a warm release switches within a second", async () => {
    await sandbox.result(["deploy"], changed);
    const { document } = await sandbox.json(["rollback"]);
    const result = document.result as { path: string; switchMs: number };
    expect(result.path).toBe("warm");
    expect(result.switchMs).toBeLessThan(1000);
  }, 120_000);
});
