import { Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import { TerminalProgress, type TerminalOptions } from "../../../cli/src/adapters/terminal/progress.js";
import type { ProgressEvent } from "../../../cli/src/ports.js";

const utf8 = { LANG: "en_GB.UTF-8", TERM: "xterm" };

/** Renders events, each 50 ms after the one before. */
function rendered(events: readonly ProgressEvent[], options: Partial<TerminalOptions> = {}): string {
  let text = "";
  let now = 0;
  const out = new Writable({
    write(chunk: Buffer, _encoding, done) {
      text += chunk.toString();
      done();
    },
  });
  const progress = new TerminalProgress(out, {
    env: utf8,
    isTTY: false,
    columns: 80,
    quiet: false,
    now: () => (now += 50),
    later: () => () => undefined,
    ...options,
  });
  for (const event of events) progress.emit(event);
  progress.end();
  return text;
}

const amount = (done: number): ProgressEvent => ({
  kind: "amount",
  label: "embedding",
  done,
  total: 2000,
  unit: "chunks",
  perSecond: 85.4,
  etaSeconds: 18,
});

const deploy: readonly ProgressEvent[] = [
  { kind: "phase", phase: "start", state: "begin", service: "embedder" },
  { kind: "phase", phase: "start", state: "end", service: "embedder", detail: "slot b", elapsedMs: 1204 },
  { kind: "phase", phase: "gates", state: "skipped", detail: "benchmark: none configured" },
  { kind: "phase", phase: "soak", state: "failed", service: "reranker", detail: "1 restart", elapsedMs: 62_000 },
];

describe("progress in a file or a pipe", () => {
  it("is one line a phase when it ends, with its number, mark and time", () => {
    expect(rendered(deploy).split("\n")).toEqual([
      "✓ 08 start         embedder  slot b  1.2 s",
      "– 12 gates         skipped benchmark: none configured",
      "✗ 15 soak          reranker  1 restart  1 min 2 s",
      "",
    ]);
  });

  it("says after five seconds that a phase is at work, unless it ended before or the command did", () => {
    const waiting = new Set<() => void>();
    const later = (delay: number, callback: () => void): (() => void) => {
      expect(delay).toBe(5000);
      waiting.add(callback);
      return () => void waiting.delete(callback);
    };
    let text = "";
    const out = new Writable({
      write(chunk: Buffer, _encoding, done) {
        text += chunk.toString();
        done();
      },
    });
    const progress = new TerminalProgress(out, { env: utf8, isTTY: false, columns: 80, quiet: false, now: () => 0, later });
    progress.emit({ kind: "phase", phase: "load", state: "begin", service: "embedder" });
    progress.emit({ kind: "phase", phase: "load", state: "begin", service: "index" });
    progress.emit({ kind: "phase", phase: "load", state: "end", service: "index", elapsedMs: 900 });
    expect(waiting.size).toBe(1);
    for (const callback of waiting) callback();
    expect(text.split("\n")).toEqual(["✓ 09 load          index      900 ms", "… 09 load          embedder", ""]);
    progress.end();
    expect(waiting.size).toBe(0);
    progress.emit({ kind: "phase", phase: "soak", state: "begin" });
    progress.emit({ kind: "amount", label: "soak", done: 1, total: 10, unit: "probes" });
    expect(waiting.size).toBe(0);
  });

  it("has no character that a plain terminal lacks", () => {
    expect(rendered(deploy, { env: { LANG: "C", TERM: "xterm" } })).toMatch(/^[\x20-\x7e\n]+$/);
  });

  it("has no control characters and a line every tenth of an amount", () => {
    const text = rendered(Array.from({ length: 2001 }, (_, done) => amount(done)));
    expect(text).toMatch(/^[^\u001B\r]+$/);
    expect(text.split("\n").length).toBeLessThan(40);
    expect(text).toContain("embedding  50 %  1,000 of 2,000 chunks  85.4 chunks/s  18.0 s left\n");
    expect(text.trimEnd()).toMatch(/100 % {2}2,000 of 2,000 chunks {2}85.4 chunks\/s$/);
  });

  it("is nothing but warnings when quiet", () => {
    expect(rendered([...deploy, amount(1), { kind: "warning", text: "the disk is nearly full" }], { quiet: true })).toBe(
      "Warning: the disk is nearly full\n",
    );
  });
});

describe("progress on a terminal", () => {
  it("redraws one line for an amount, never wider than the terminal, and clears it in the end", () => {
    const text = rendered([amount(500), amount(501), amount(900)], { isTTY: true, columns: 50 });
    const drawn = text.split("\r\u001B[K").filter((line) => line !== "");
    expect(drawn).toHaveLength(2);
    for (const line of drawn) expect(line.length).toBeLessThan(50);
    expect(drawn[0]).toContain("█████░░░░░░░░░░░░░░░  25 %");
    expect(text.endsWith("\r\u001B[K")).toBe(true);
  });

  it("shows the phase under way, then its line in colour", () => {
    const text = rendered(deploy.slice(0, 2), { isTTY: true });
    expect(text).toContain("\r\u001B[K… 08 start         embedder");
    expect(text).toContain("\u001B[32m✓\u001B[0m 08 start");
  });

  it.each([{ NO_COLOR: "1" }, { FORCE_COLOR: "0" }])("has no colour with %j", (env) => {
    expect(rendered(deploy, { isTTY: true, env: { ...utf8, ...env } })).not.toContain("\u001B[3");
  });

  it("keeps a warning above the line that is redrawn", () => {
    const text = rendered([amount(500), { kind: "warning", text: "slow" }, amount(900)], { isTTY: true });
    expect(text).toMatch(/Warning:\u001B\[0m slow\n\r\u001B\[Kembedding/);
  });
});
