import { describe, expect, it } from "vitest";
import { seededCorpus, variation } from "../../../cli/src/bench/corpus.js";

const words = (text: string): number => text.split(" ").length;

describe("the corpus", () => {
  const corpus = seededCorpus(42);
  const passages = Array.from({ length: 20_000 }, (_, n) => corpus.passage(n));

  it("never says the same thing twice, so no cache can answer", () => {
    expect(new Set(passages).size).toBe(passages.length);
    expect(new Set(Array.from({ length: 20_000 }, (_, n) => corpus.query(n))).size).toBe(20_000);
  });

  it("is decided by its seed, and its hash says so", () => {
    expect(seededCorpus(42).passage(4711)).toBe(corpus.passage(4711));
    expect(seededCorpus(42).hash).toBe(corpus.hash);
    expect(seededCorpus(43).hash).not.toBe(corpus.hash);
  });

  it("has the lengths of real passages: a few words to a few hundred, most in between", () => {
    const lengths = passages.map(words).sort((a, b) => a - b);
    const at = (share: number): number => lengths[Math.floor(share * lengths.length)] ?? 0;
    expect(at(0.05)).toBeGreaterThan(10);
    expect(at(0.5)).toBeGreaterThan(45);
    expect(at(0.5)).toBeLessThan(80);
    expect(at(0.99)).toBeGreaterThan(200);
    expect(lengths.at(-1)).toBeLessThan(340);
  });

  it("uses common words often and rare words too", () => {
    const counts = new Map<string, number>();
    for (const word of passages.slice(0, 2000).join(" ").toLowerCase().split(/\W+/))
      counts.set(word, (counts.get(word) ?? 0) + 1);
    expect(counts.get("service")).toBeGreaterThan(10 * (counts.get("magnet") ?? 0));
    expect(counts.get("magnet")).toBeGreaterThan(0);
  });

  it("varies a query's vector without leaving its neighbourhood", () => {
    const base = Array.from({ length: 384 }, (_, n) => (n === 0 ? 1 : 0));
    const one = variation(base, 42, 1);
    expect(one).not.toEqual(variation(base, 42, 2));
    expect(one).toEqual(variation(base, 42, 1));
    expect(Math.hypot(...one)).toBeCloseTo(1, 4);
    expect(one[0]).toBeGreaterThan(0.9);
  });
});
