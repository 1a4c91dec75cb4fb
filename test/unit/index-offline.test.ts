import { describe, expect, it } from "vitest";
import { counts, indexBench, type IndexBenchResult } from "../../cli/src/app/index-bench.js";
import { indexMigrate } from "../../cli/src/app/index-migrate.js";
import { indexBenchText } from "../../cli/src/app/render/index-bench-text.js";
import { indexMigrateText } from "../../cli/src/app/render/index-migrate-text.js";
import type { ServingTools } from "../../cli/src/app/serving-tool.js";
import { ms } from "../../cli/src/domain/units.js";
import type { Command, CommandResult, ExecuteOptions, ProgressEvent } from "../../cli/src/ports.js";

/** A program of the services that says these lines and ends so. */
function program(lines: readonly unknown[], ended: Partial<CommandResult> = {}) {
  const commands: Command[] = [];
  const events: ProgressEvent[] = [];
  let now = 0;
  const tools = {
    python: { find: () => Promise.resolve("/venv/bin/python"), ensure: () => Promise.reject(new Error("nothing is made here")) },
    executor: {
      run(command: Command, options: ExecuteOptions): Promise<CommandResult> {
        commands.push(command);
        for (const line of lines) options.onLine?.(typeof line === "string" ? line : JSON.stringify(line), "stdout");
        return Promise.resolve({ code: 0, signal: null, stdout: "", stderr: "", ...ended });
      },
    },
    clock: { now: () => new Date(0), monotonic: () => ms((now += 500)), sleep: () => Promise.resolve() },
    progress: { emit: (event: ProgressEvent) => void events.push(event) },
    signal: new AbortController().signal,
    paths: { store: "/models", wheel: "/cache/serving.whl" },
  } satisfies ServingTools;
  return { tools, commands, events };
}

const request = {
  ...{ action: "migrate" as const, indexPath: "/old/index.faiss", documents: null, backupDir: null, stateDirectory: "/state" },
  ...{ namespace: "default", dimension: null, reEmbed: false, acceptLossy: false, assumeSameModel: false, recallLoss: 0.01 },
  ...{ benchmark: false, gpu: null, embedder: null },
  index: { base: "http://127.0.0.1:8003", headers: { authorization: "Bearer a-secret-key" } },
};

const check = {
  source: {
    path: "/old/index.faiss",
    type: "IndexFlatL2",
    dimension: 4,
    vectors: 3,
    metric: "l2",
    lossy: false,
    lengths: [1, 1],
  },
  documents: { file: "/old/index.pkl", matched: 3, withText: 3, unused: 0 },
  model: { checked: true, texts: 3, meanCosine: 0.99999 },
  warnings: ["1 documents belong to no vector and are left out"],
};

describe("index migrate", () => {
  it("gives keys on stdin and never as an argument", async () => {
    const { tools, commands } = program([{ event: "result", check }]);
    await indexMigrate(tools, request);
    const [command] = commands;
    expect(command?.argv).toEqual(["/venv/bin/python", "-m", "gpuctl_serving.migration"]);
    expect(JSON.stringify(command?.env)).not.toContain("a-secret-key");
    expect(JSON.parse(command?.input ?? "")).toMatchObject({ index: { address: "http://127.0.0.1:8003", key: "a-secret-key" } });
  });

  it("finds the journal of the same file and namespace again, and another one for another namespace", async () => {
    const { tools } = program([{ event: "result", check }]);
    const first = await indexMigrate(tools, request);
    expect(first.backupDir).toMatch(/^\/state\/migrations\/[0-9a-f]{12}$/);
    expect((await indexMigrate(tools, request)).backupDir).toBe(first.backupDir);
    expect((await indexMigrate(tools, { ...request, namespace: "other" })).backupDir).not.toBe(first.backupDir);
  });

  it("shows steps and amounts, and warns of what the check found", async () => {
    const { tools, events } = program([
      { event: "step", step: "load", state: "begin" },
      { event: "progress", label: "load", done: 256, total: 1000, unit: "vectors" },
      "not JSON",
      { event: "result", check },
    ]);
    await indexMigrate(tools, request);
    expect(events).toMatchObject([
      { kind: "step", text: "load: begin" },
      { kind: "amount", label: "load", done: 256, total: 1000 },
      { kind: "warning", text: "1 documents belong to no vector and are left out" },
    ]);
  });

  it("says what the program said: what, why, and what to type", async () => {
    const error = { event: "error", message: "x is a IndexLSH", because: "only Flat is understood", next: "gpuctl index add" };
    const { tools } = program([error], { code: 1 });
    await expect(indexMigrate(tools, request)).rejects.toMatchObject({
      message: "x is a IndexLSH",
      because: "only Flat is understood",
      nextSteps: ["gpuctl index add"],
    });
  });

  it("says how a program ended that said nothing", async () => {
    const { tools } = program([], { code: null, signal: "SIGSEGV" });
    await expect(indexMigrate(tools, request)).rejects.toMatchObject({ because: expect.stringContaining("SIGSEGV") as unknown });
  });

  it("says how to go back, when something was served before", async () => {
    const verify = { queries: 3, k: 3, recall: 1, sourceRecall: 1, msAQuery: { source: 0.1, index: 2 } };
    const switched = { namespace: "default", kept: "default~before-0a1b2c3d", itemsBefore: 1234 };
    const { tools } = program([{ event: "result", check, verify, switch: switched }]);
    const text = indexMigrateText(await indexMigrate(tools, request), false);
    expect(text).toContain("recall   1.000 of the true 3 neighbours over 3 queries (the source: 1.000)");
    expect(text).toContain("the 1,234 items of before are kept in default~before-0a1b2c3d");
    expect(text).toContain("--undo");
  });
});

const row = {
  vectors: 1000,
  type: "Flat",
  device: "cpu",
  batch: 1,
  recall: 1,
  qps: 13180.8,
  p50: 0.061,
  p99: null,
  calls: 40,
} as const;
const result: IndexBenchResult = {
  rows: [{ ...row, buildSeconds: 0, bytesAVector: 1548.3 }],
  crossovers: [{ batch: 1, approximateBeatsFlatFrom: null, gpuBeatsCpuFrom: null, gpuMeasured: false, fastest: [] }],
  leftOut: [{ vectors: 1_000_000, because: "it needs 4000 MiB of memory and 100 MiB are free" }],
  gpu: "the installed FAISS is the CPU build",
  machine: { cpu: "a processor", threads: 2, cores: 2, faiss: "1.15.1", load1: 0.5, peakBytes: 215613440 },
  data: { kind: "synthetic, clustered", dimension: 384, k: 10, queries: 256, seed: 42 },
};

describe("index bench", () => {
  it("prints recall beside every rate, says who wins, and what was left out", () => {
    expect(indexBenchText(result)).toMatchInlineSnapshot(`
      "vectors  type  device  batch  recall  queries/s  p50 ms  p99 ms  build s  B/vector
           1K  Flat  cpu         1  1.0000      13181    0.06     n/a      0.0      1548

      batch 1   exact search wins at every size measured; GPU not measured: the installed FAISS is the CPU build
      1M vectors left out: it needs 4000 MiB of memory and 100 MiB are free
      synthetic, clustered data, 384 dimensions, k 10, 256 held-out queries, seed 42; recall on your data differs
      a processor, 2 threads, FAISS 1.15.1, load 0.5, peak 206 MiB"
    `);
  });

  it("names the sizes at which the CPU wins", () => {
    const fastest = [
      { vectors: 1000, type: "Flat", device: "cpu" as const, qps: 10 },
      { vectors: 100_000, type: "Flat", device: "cuda" as const, qps: 10 },
    ];
    const one = { batch: 32, approximateBeatsFlatFrom: 10_000, gpuBeatsCpuFrom: 100_000, gpuMeasured: true, fastest };
    expect(indexBenchText({ ...result, gpu: null, crossovers: [one] })).toContain(
      "batch 32  inverted lists win from 10K vectors on (recall 0.95 or better); the GPU wins from 100K vectors on, the CPU at 1K",
    );
  });

  it("passes what was asked for, the GPU only when one was named", async () => {
    const { tools, commands } = program([{ event: "result", ...result }]);
    const asked = { sizes: [1000, 10_000], batches: [1], dimension: 8, k: 5, seconds: 0.5, seed: 7 };
    await indexBench(tools, { ...asked, gpu: null });
    await indexBench(tools, { ...asked, gpu: 1 });
    expect(commands[0]?.argv.slice(2)).toEqual(
      "gpuctl_serving.index.bench --sizes 1000,10000 --batches 1 --dimension 8 --k 5 --seconds 0.5 --seed 7".split(" "),
    );
    expect(commands[1]?.argv.slice(-2)).toEqual(["--gpu", "1"]);
  });

  it.each([
    ["1K,10k,1M", [1000, 10_000, 1_000_000]],
    ["7", [7]],
  ])("understands %s", (text, expected) => {
    expect(counts(text, "--sizes")).toEqual(expected);
  });

  it.each(["", "0", "1G", "-1", "1,,2", "many"])("refuses %j as counts", (text) => {
    expect(() => counts(text, "--sizes")).toThrow("--sizes");
  });
});
