import { describe, expect, it } from "vitest";
import { chunkDocument } from "../../cli/src/domain/chunk.js";

const texts = (source: string, kind: "markdown" | "text" = "markdown"): string[] =>
  chunkDocument("a.md", source, kind).chunks.map(({ text }) => text);

describe("chunks of Markdown", () => {
  it("share a chunk under the same heading and never cross one", () => {
    expect(texts("# A\n\nOne.\n\nTwo.\n\n## B\n\nThree.\n\n# C\n\nFour.\n")).toEqual([
      "A\n\nOne.\n\nTwo.",
      "A > B\n\nThree.",
      "C\n\nFour.",
    ]);
  });

  it("keep a code fence whole, with what looks like a heading inside it", () => {
    const fence = "```sh\n# no heading\n\ngpuctl deploy\n```";
    expect(texts(`# A\n\nType:\n\n${fence}\n\nDone.\n`)).toEqual([`A\n\nType:\n\n${fence}\n\nDone.`]);
  });

  it("start at the line they say, also behind a front matter and in the middle of a long paragraph", () => {
    const long = Array.from(
      { length: 60 },
      (_, n) => `Sentence number ${String(n)} says something about line ${String(n)}.`,
    ).join("\n");
    const { chunks } = chunkDocument("a.md", `---\ntitle: x\n---\n# A\n\n${long}\n`, "markdown");
    expect(chunks.length).toBeGreaterThan(1);
    for (const chunk of chunks) {
      const first = /line (\d+)/.exec(chunk.text)?.[1];
      expect(chunk.metadata.line).toBe(6 + Number(first));
    }
  });

  it("an unclosed fence, a heading without text and a file of nothing do no harm", () => {
    expect(texts("```\nopen")).toEqual(["```\nopen"]);
    expect(texts("#\n\ntext")).toEqual(["text"]);
    expect(texts("")).toEqual([]);
    expect(texts("# Only a heading\n")).toEqual([]);
  });

  it("a word of a megabyte is cut like anything else", () => {
    const { chunks } = chunkDocument("a.txt", "x".repeat(1_000_000), "text");
    expect(chunks.map(({ text }) => text).join("")).toHaveLength(1_000_000);
  });

  it("change their hash with their text and not with their place", () => {
    const hash = (source: string): string | undefined => chunkDocument("a.md", source, "markdown").chunks[0]?.metadata.hash;
    expect(hash("\n\n# A\n\nOne.")).toBe(hash("# A\n\nOne."));
    expect(hash("# A\n\nOther.")).not.toBe(hash("# A\n\nOne."));
  });
});
