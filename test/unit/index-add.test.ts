import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DiskDocuments } from "../../cli/src/adapters/documents/disk-documents.js";
import { indexAdd, type IndexAddResult } from "../../cli/src/app/index-add.js";
import { indexAddText } from "../../cli/src/app/render/index-add-text.js";
import { ms } from "../../cli/src/domain/units.js";
import type { ProgressEvent } from "../../cli/src/ports.js";
import { RetrievalServices } from "../fakes/retrieval-services.js";

let directory: string;
let services: RetrievalServices;
let events: ProgressEvent[];
let slept: number[];

beforeEach(async () => {
  directory = await realpath(await mkdtemp(join(tmpdir(), "gpuctl-documents-")));
  services = new RetrievalServices();
  events = [];
  slept = [];
});

afterEach(() => rm(directory, { recursive: true, force: true }));

async function file(name: string, content: string | Uint8Array): Promise<void> {
  await mkdir(join(directory, name, ".."), { recursive: true });
  await writeFile(join(directory, name), content);
}

function add(paths: readonly string[] = ["docs"], batch = 32): Promise<IndexAddResult> {
  let now = 0;
  const sleep = (duration: number): Promise<void> => Promise.resolve(void slept.push(duration));
  const tools = {
    http: services,
    clock: { now: () => new Date(0), monotonic: () => ms((now += 1)), sleep },
    progress: { emit: (event: ProgressEvent) => void events.push(event) },
    signal: new AbortController().signal,
    documents: new DiskDocuments(directory, directory),
  };
  const at = (service: string): { base: string; headers: Record<string, string> } => ({ base: `http://${service}`, headers: {} });
  return indexAdd(tools, { paths, namespace: "default", batch, embedder: at("embedder"), index: at("index") });
}

const warnings = (): string[] => events.flatMap((event) => (event.kind === "warning" ? [event.text] : []));

describe("index add", () => {
  it("stores every chunk with its file, line and heading", async () => {
    await file("docs/guide.md", "# Guide\n\nHello.\n\n## Roll back\n\nType rollback.\n");
    expect(await add()).toMatchObject({ files: 1, chunks: 2, added: 2, updated: 0, unchanged: 0, deleted: 0 });
    const stored = services.items.get("docs/guide.md#1");
    expect(stored?.metadata).toMatchObject({ source: "docs/guide.md", line: 7, heading: "Guide > Roll back" });
    expect(stored?.text).toBe("Guide > Roll back\n\nType rollback.");
  });

  it("does nothing the second time", async () => {
    await file("docs/guide.md", "# Guide\n\nHello.\n");
    await add();
    services.embedded.length = 0;
    expect(await add()).toMatchObject({ added: 0, updated: 0, unchanged: 1, deleted: 0 });
    expect(services.embedded).toEqual([]);
  });

  it("embeds only what changed and deletes what a file no longer has", async () => {
    await file("docs/guide.md", "# One\n\nFirst.\n\n# Two\n\nSecond.\n\n# Three\n\nThird.\n");
    await add();
    services.embedded.length = 0;
    await file("docs/guide.md", "# One\n\nFirst.\n\n# Two\n\nChanged.\n");
    expect(await add()).toMatchObject({ added: 0, updated: 1, unchanged: 1, deleted: 1 });
    expect(services.embedded).toEqual(["Two\n\nChanged."]);
    expect([...services.items.keys()]).toEqual(["docs/guide.md#0", "docs/guide.md#1"]);
  });

  it("removes what a directory no longer has, and says of how many files", async () => {
    await file("docs/kept.md", "Kept.");
    await file("docs/old/gone.md", "# A\n\nGone.\n\n# B\n\nToo.\n");
    await file("docs2/other.md", "Other.");
    await add(["docs", "docs2"]);
    await rm(join(directory, "docs/old"), { recursive: true });
    await rm(join(directory, "docs2/other.md"));
    expect(await add(["docs"])).toMatchObject({ unchanged: 1, deleted: 2, filesGone: 1 });
    expect([...services.items.keys()]).toEqual(["docs/kept.md#0", "docs2/other.md#0"]);
    expect(await add(["."])).toMatchObject({ unchanged: 1, deleted: 1, filesGone: 1 });
    expect([...services.items.keys()]).toEqual(["docs/kept.md#0"]);
  });

  it("keeps what is still on the disk but was not read, and what another client stored", async () => {
    await file("docs/a.md", "A.");
    await file("docs/b.md", "B.");
    await add();
    await file("docs/b.md", new Uint8Array([0]));
    const metadata = { source: "docs/never-a-file.md", hash: "theirs" };
    services.items.set("theirs", { id: "theirs", text: "Theirs.", metadata });
    expect(await add(["."])).toMatchObject({ deleted: 0, filesGone: 0 });
    expect([...services.items.keys()]).toEqual(["docs/a.md#0", "docs/b.md#0", "theirs"]);
  });

  it("one file named by itself removes nothing of its neighbours", async () => {
    await file("docs/a.md", "A.");
    await file("docs/b.md", "B.");
    await add();
    await rm(join(directory, "docs/b.md"));
    expect(await add(["docs/a.md"])).toMatchObject({ deleted: 0, filesGone: 0 });
  });

  it("a renamed JSON lines file keeps the chunks that carry their own ids", async () => {
    await file("docs/notes.jsonl", '{"id":"n1","text":"Alpha"}\n{"text":"Beta"}');
    await add();
    await rm(join(directory, "docs/notes.jsonl"));
    await file("docs/renamed.jsonl", '{"id":"n1","text":"Alpha"}\n{"text":"Beta"}');
    await add();
    expect([...services.items.keys()].sort()).toEqual(["docs/renamed.jsonl#1", "n1"]);
    expect(services.items.get("n1")?.metadata).toMatchObject({ source: "docs/renamed.jsonl" });
  });

  it("goes on from where an earlier run was cut short", async () => {
    for (let n = 0; n < 10; n += 1) await file(`docs/${String(n)}.txt`, `Text number ${String(n)}.`);
    services.interruptions = [{ path: "/embed", status: 200, body: "no vectors" }];
    await expect(add(["docs"], 4)).rejects.toMatchObject({ exit: "failed" });
    expect(await add(["docs/0.txt", "docs/1.txt", "docs/2.txt"])).toMatchObject({ added: 3 });
    services.embedded.length = 0;
    expect(await add(["docs"], 4)).toMatchObject({ added: 7, unchanged: 3 });
    expect(services.embedded).toHaveLength(7);
  });

  it("asks a full service again when it says, and gives up on a refusal with its words", async () => {
    await file("docs/a.txt", "Hello.");
    services.interruptions = [{ path: "/embed", status: 429, headers: { "retry-after": "3" } }];
    expect(await add()).toMatchObject({ added: 1 });
    expect(slept).toEqual([3000]);
    await file("docs/a.txt", "Other.");
    services.interruptions = [{ path: "/add", status: 422, body: { message: "The vector has 2 dimensions, not 384." } }];
    await expect(add()).rejects.toMatchObject({ because: "The vector has 2 dimensions, not 384" });
  });

  it("skips what is no document, with its name and the reason, and adds the rest", async () => {
    await file("docs/good.md", "Hello.");
    await file("docs/binary.txt", new Uint8Array([72, 0, 1]));
    await file("docs/latin.txt", new Uint8Array([0x63, 0x61, 0x66, 0xe9]));
    await file("docs/huge.txt", "a".repeat(16 * 2 ** 20 + 1));
    await file("docs/node_modules/x/readme.md", "Not mine.");
    await file("docs/code.ts", "const passedOver = true;");
    await symlink(directory, join(directory, "docs/ring"));
    const result = await add();
    expect(result).toMatchObject({ files: 1, added: 1 });
    expect(warnings()).toEqual([
      "docs/binary.txt was skipped: it is a binary file",
      "docs/huge.txt was skipped: it has 16 MiB, the limit is 16 MiB",
      "docs/latin.txt was skipped: it is not valid UTF-8",
    ]);
  });

  it("reads JSON lines with their own ids and metadata, and names lines that cannot be used", async () => {
    const lines = [
      '{"id":"a","text":"Alpha","metadata":{"team":"x"}}',
      "{oops",
      '{"id":7}',
      '{"id":"a","text":"Again"}',
      "",
      '{"text":"Beta"}',
    ];
    await file("docs/notes.jsonl", lines.join("\n"));
    expect(await add()).toMatchObject({ chunks: 2, added: 2 });
    expect(services.items.get("a")?.metadata).toMatchObject({ team: "x", source: "docs/notes.jsonl", line: 1 });
    expect(services.items.get("docs/notes.jsonl#5")?.text).toBe("Beta");
    expect(warnings()).toEqual([
      "docs/notes.jsonl, line 2: it is no JSON: left out",
      "docs/notes.jsonl, line 3: it has no `text`: left out",
      "docs/notes.jsonl, line 4: the id a was there before, this one is left out",
    ]);
  });

  it("a path that does not exist is a usage error that names it", async () => {
    await expect(add(["nowhere"])).rejects.toMatchObject({ exit: "usage", message: "nowhere cannot be added" });
  });

  it("tells how far it is", async () => {
    await file("docs/a.txt", "Hello.");
    await file("docs/b.txt", "World.");
    await add();
    const amounts = events.filter((event) => event.kind === "amount");
    expect(amounts.at(-1)).toMatchObject({ label: "index add", done: 2, total: 2, unit: "files", etaSeconds: 0 });
  });
});

describe("the summary", () => {
  it("says what changed, how fast, and what to type next", () => {
    const counts = { files: 12, chunks: 1204, added: 1000, updated: 4, unchanged: 200, deleted: 3, filesGone: 1, truncated: 0 };
    const text = indexAddText({ namespace: "default", ...counts, skipped: [], seconds: 10, chunksPerSecond: 120.4 });
    expect(text).toBe(
      "12 files, 1,204 chunks in namespace default (10.0 s, 120.4 chunks/s)\n" +
        "  1000 added, 4 updated, 200 unchanged, 3 deleted\n" +
        "Deleted what the index had of 1 file no longer on the disk.\n" +
        'Ask it something: gpuctl query "..."',
    );
  });
});
