/**
 * The index over its life, with real services: statistics, snapshot, verification, backup and restore, an old FAISS file taken
 * over and given back, and what each says when it cannot.
 */
import { execFileSync } from "node:child_process";
import { appendFileSync, cpSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { MigrateResult } from "../../cli/src/app/index-migrate.js";
import { Sandbox } from "../support/sandbox.js";

let sandbox: Sandbox;
let python: string;

beforeAll(async () => {
  sandbox = await Sandbox.create({ services: ["embedder", "index"], soak: "1s" });
  python = ((await sandbox.result(["models", "fetch"])) as { python: { path: string } }).python.path;
  const lines = ["wombats dig burrows", "ships sail at dawn", "bread needs yeast"].map((text, n) =>
    JSON.stringify({ id: `doc-${String(n)}`, text }),
  );
  writeFileSync(join(sandbox.directory, "facts.jsonl"), `${lines.join("\n")}\n`);
  await sandbox.result(["deploy"]);
  await sandbox.result(["index", "add", "facts.jsonl"]);
}, 180_000);

afterAll(() => sandbox.close());

const items = async (): Promise<Record<string, number>> =>
  ((await sandbox.result(["index", "stats"])) as { namespaces: Record<string, number> }).namespaces;

const best = async (text: string): Promise<string | undefined> =>
  ((await sandbox.result(["query", text, "--show", "1"])) as { hits: { text: string }[] }).hits[0]?.text;

describe("the index's upkeep", () => {
  it("says what it holds and how it searches", async () => {
    const { stdout } = await sandbox.run(["index", "stats"]);
    expect(stdout).toMatch(/^3 items, 3 vectors of 384 dimensions, searched on cpu/);
    expect(stdout).toMatch(/default\s+3\s+Flat\s+1\.000\s+all/);
  });

  it("makes a snapshot, verifies, compacts and rebuilds while it serves", async () => {
    expect(await sandbox.result(["index", "snapshot"])).toMatchObject({ items: 3 });
    expect(await sandbox.result(["index", "verify"])).toMatchObject({ ok: true, items: 3, offline: false });
    expect(await sandbox.result(["index", "compact"])).toHaveProperty("bytesAfter");
    expect(await sandbox.result(["index", "rebuild"])).toMatchObject({ vectors: 3 });
    expect(await best("animals under the ground")).toContain("wombats");
  });

  it("gives back what a backup held, and nothing that came after it", async () => {
    const backup = join(sandbox.directory, "backup");
    expect(await sandbox.result(["index", "backup", "--to", backup])).toMatchObject({ items: 3, directory: backup });
    writeFileSync(join(sandbox.directory, "more.jsonl"), `{"id":"late","text":"volcanoes spit lava"}\n`);
    await sandbox.result(["index", "add", "more.jsonl"]);
    expect(await items()).toEqual({ default: 4 });
    expect(await sandbox.result(["index", "restore", "--from", backup, "--confirm", "local"])).toMatchObject({ items: 3 });
    expect(await items()).toEqual({ default: 3 });
    expect(await sandbox.result(["status"])).toMatchObject({ healthy: true });
  });

  it("keeps serving what it has when a backup is damaged, or is not confirmed", async () => {
    const damaged = join(sandbox.directory, "damaged");
    cpSync(join(sandbox.directory, "backup"), damaged, { recursive: true });
    appendFileSync(join(damaged, "index.db"), "x");
    const refused = await sandbox.json(["index", "restore", "--from", damaged, "--confirm", "local"]);
    expect(refused).toMatchObject({ code: 1, document: { error: { message: "index restore was refused" } } });
    expect(await items()).toEqual({ default: 3 });
    expect((await sandbox.json(["index", "restore", "--from", damaged])).code).toBe(2);
  });

  it("takes over an old FAISS file, and gives back what served before", async () => {
    const file = join(sandbox.directory, "old.faiss");
    const texts = ["the moon pulls the tides", "cellos have four strings", "salt preserves fish", "bees dance to point"];
    const documents = texts.map((text, row) => JSON.stringify({ id: `old-${String(row)}`, text, metadata: { row } }));
    writeFileSync(join(sandbox.directory, "old.jsonl"), documents.join("\n"));
    const answer = await fetch(`http://127.0.0.1:${String(sandbox.ports.embedder)}/embed`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ inputs: texts }),
    });
    const script =
      "import faiss, json, numpy as np, sys; v = np.array(json.load(sys.stdin), np.float32); " +
      "i = faiss.IndexFlatL2(v.shape[1]); i.add(v); faiss.write_index(i, sys.argv[1])";
    execFileSync(python, ["-c", script, file], { input: await answer.text() });

    const checked = (await sandbox.result(["index", "migrate", "--index-path", file, "--check-only"])) as MigrateResult;
    expect(checked.check).toMatchObject({ source: { type: "IndexFlatL2", vectors: 4 }, documents: { withText: 4 } });
    expect(checked.check?.model.meanCosine).toBeCloseTo(1, 4);
    expect(await items()).toEqual({ default: 3 });

    const done = (await sandbox.result(["index", "migrate", "--index-path", file, "--dimension", "384"])) as MigrateResult;
    expect(done.verify).toMatchObject({ recall: 1, sourceRecall: 1 });
    expect(existsSync(join(done.backupDir, "old.faiss"))).toBe(true);
    expect(await best("which instrument is bowed?")).toContain("cellos");
    expect(await items()).toMatchObject({ default: 4, [done.switch?.kept ?? ""]: 3 });

    await sandbox.result(["index", "migrate", "--index-path", file, "--undo"]);
    expect(await best("animals under the ground")).toContain("wombats");
  });

  it("refuses a file of another dimension with what to type", async () => {
    const refused = await sandbox.json([
      ...["index", "migrate", "--index-path", join(sandbox.directory, "old.faiss"), "--dimension", "768"],
    ]);
    expect(refused).toMatchObject({ code: 1, document: { error: { because: "--dimension says 768" } } });
  });

  it("measures index types without touching what runs", async () => {
    const args = ["index", "bench", "--sizes", "500", "--batches", "1,8", "--dimension", "16", "--seconds", "0.05"];
    const { stdout } = await sandbox.run(args);
    expect(stdout).toMatch(/500\s+Flat\s+cpu\s+1\s+1\.0000/);
    expect(stdout).toContain("GPU not measured: the installed FAISS");
  });

  it("is verified and backed up from its files when nothing runs", async () => {
    await sandbox.result(["destroy", "--confirm", "local"]);
    expect(await sandbox.result(["index", "verify"])).toMatchObject({ ok: true, offline: true });
    const copy = join(sandbox.directory, "offline-backup");
    await sandbox.result(["index", "backup", "--to", copy]);
    expect(existsSync(join(copy, "manifest.json"))).toBe(true);
    expect((await sandbox.json(["index", "stats"])).code).toBe(5);
  });
});
