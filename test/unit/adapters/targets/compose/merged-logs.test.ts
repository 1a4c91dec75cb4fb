import { expect, test } from "vitest";
import { mergedLogs } from "../../../../../cli/src/adapters/targets/compose/merged-logs.js";
import type { LogLine, NodeTarget, TargetDriver } from "../../../../../cli/src/ports.js";

type Lines = (signal: AbortSignal) => AsyncIterable<string>;

/** Only its logs are looked at. */
const host = (node: string, lines: Lines): NodeTarget => ({
  node,
  driver: {
    async *logs(_services: unknown, _options: unknown, signal: AbortSignal): AsyncIterable<LogLine> {
      for await (const text of lines(signal)) yield { service: "embedder", instance: "embedder-r1-aa-a", text };
    },
  } as unknown as TargetDriver,
});

async function* said(...texts: readonly string[]): AsyncIterable<string> {
  for (const text of texts) yield await Promise.resolve(text);
}

/** Says one line, then nothing until nobody listens any more. */
async function* quiet(signal: AbortSignal, text: string, ended: () => void): AsyncIterable<string> {
  yield text;
  await new Promise((resolve) => {
    signal.addEventListener("abort", resolve);
  });
  ended();
}

async function collect(logs: AsyncIterable<LogLine>, atMost = Infinity): Promise<string[]> {
  const lines: string[] = [];
  for await (const { node, text } of logs) {
    lines.push(`${node ?? ""}: ${text}`);
    if (lines.length >= atMost) break;
  }
  return lines;
}

const never = new AbortController().signal;

test("logs that end are given host after host, each line with its host", async () => {
  const hosts = [host("one", () => said("a", "b")), host("two", () => said("c"))];
  expect(await collect(mergedLogs(hosts, ["embedder"], { lines: 10, follow: false }, never))).toEqual([
    "one: a",
    "one: b",
    "two: c",
  ]);
});

test("followed, a host that says nothing holds up nobody, and is let go when nobody reads on", async () => {
  let ended = 0;
  const hosts = [host("one", (signal) => quiet(signal, "first", () => (ended += 1))), host("two", () => said("x", "y", "z"))];
  const lines = await collect(mergedLogs(hosts, ["embedder"], { lines: 10, follow: true }, never), 4);
  expect(new Set(lines)).toEqual(new Set(["one: first", "two: x", "two: y", "two: z"]));
  await Promise.resolve();
  expect(ended).toBe(1);
});

test("followed, it ends when all hosts have ended, and fails when one does", async () => {
  const both = [host("one", () => said("a")), host("two", () => said("b"))];
  expect(await collect(mergedLogs(both, ["embedder"], { lines: 1, follow: true }, never))).toHaveLength(2);
  const broken = host("two", async function* () {
    yield await Promise.reject(new Error("the connection was lost"));
  });
  const logs = mergedLogs([host("one", () => said("a")), broken], ["embedder"], { lines: 1, follow: true }, never);
  await expect(collect(logs)).rejects.toThrow("the connection was lost");
});
