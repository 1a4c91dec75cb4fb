import { cpSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { repository, Sandbox } from "../support/sandbox.js";

describe("changing the embedding model under an index that holds documents", () => {
  let sandbox: Sandbox;
  const tiny = { name: "tiny", path: join(repository, "test/golden/models/tiny-xlmr-embedder") };
  const services = ["embedder", "index"] as const;
  const search = (text: string): Promise<{ status: number; body: unknown }> =>
    sandbox.post("index", "/api/v1/vector-store/search", { text, k: 1 });
  const add = (items: readonly object[]): Promise<{ status: number; body: unknown }> =>
    sandbox.post("index", "/api/v1/vector-store/add", { items });

  beforeAll(async () => {
    sandbox = await Sandbox.create({ services, soak: "1s" });
    const store = join(sandbox.directory, "models");
    cpSync(process.env["GPUCTL_TEST_MODEL_STORE"] ?? "", store, { recursive: true });
    sandbox.env["GPUCTL_MODEL_STORE"] = store;
    await sandbox.result(["deploy"]);
    const items = Array.from({ length: 60 }, (_, n) => ({
      id: `n${String(n)}`,
      text: `document number ${String(n)} about subject ${String(n * 7)}`,
    }));
    expect((await add([...items, { id: "cat", text: "A cat sleeps on the sofa." }])).status).toBe(200);
  }, 120_000);

  afterAll(async () => {
    await sandbox.close();
  });

  test("the new generation is complete before the switch", async () => {
    sandbox.writeConfig({ services, soak: "1s", model: tiny });
    await sandbox.result(["models", "fetch"]);
    await sandbox.result(["deploy"]);
    const stats = (await (await fetch(sandbox.url("index", "/api/v1/vector-store/stats"))).json()) as { dimension: number };
    expect(stats.dimension).not.toBe(384);
    // Random weights rank nothing sensibly, but the very same text must find itself.
    expect(await search("A cat sleeps on the sofa.")).toMatchObject({ status: 200, body: { results: [[{ id: "cat" }]] } });
  }, 120_000);

  test("a rollback returns to the old generation with what was written since", async () => {
    expect((await add([{ id: "late", text: "The lease carries a fencing token." }])).status).toBe(200);
    sandbox.writeConfig({ services, soak: "1s" });
    await sandbox.result(["rollback"]);
    expect(await search("which lock has a fencing number?")).toMatchObject({
      status: 200,
      body: { results: [[{ id: "late" }]] },
    });
    expect(await search("an animal that is asleep on furniture")).toMatchObject({ body: { results: [[{ id: "cat" }]] } });
  }, 120_000);

  test("items without a text cannot be embedded again: the change is refused with their number", async () => {
    expect((await add([{ id: "bare", vector: Array.from({ length: 384 }, (_, n) => Math.sin(n)) }])).status).toBe(200);
    sandbox.writeConfig({ services, soak: "1s", model: tiny });
    const { code, document } = await sandbox.json(["deploy"]);
    expect([5, 6]).toContain(code);
    expect(JSON.stringify(document.error)).toMatch(/\b1 item/);
    expect(await search("which lock has a fencing number?")).toMatchObject({
      status: 200,
      body: { results: [[{ id: "late" }]] },
    });
  }, 120_000);
});
