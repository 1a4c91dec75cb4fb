import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chunkDocument } from "../../cli/src/domain/chunk.js";
import { estimateTokens } from "../../cli/src/domain/chunk-split.js";

const word = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 }).filter((text) => /^\S+$/u.test(text));
const line = fc.oneof(
  { weight: 5, arbitrary: fc.array(word, { maxLength: 40 }).map((words) => words.join(" ")) },
  fc.constantFrom("", "```", "```ts", "~~~", "---", "    "),
  fc.array(word, { minLength: 1, maxLength: 5 }).map((words) => `## ${words.join(" ")}`),
);
const document = fc.array(line, { maxLength: 60 }).map((lines) => lines.join("\n"));

const letters = (text: string): string => text.replace(/\s+/g, "");

describe("chunks of any document", () => {
  it("fit the model, start where they say, and have ids of their own", () => {
    fc.assert(
      fc.property(document, fc.constantFrom("markdown" as const, "text" as const), (text, kind) => {
        const { chunks } = chunkDocument("a.md", text, kind);
        const lines = text.split("\n");
        for (const chunk of chunks) {
          expect(estimateTokens(chunk.text)).toBeLessThanOrEqual(225);
          const { heading } = chunk.metadata;
          const own = heading === "" ? chunk.text : chunk.text.slice(heading.length + 2);
          const begin = letters(own.split("\n")[0] ?? "");
          expect(letters(lines.slice(chunk.metadata.line - 1, chunk.metadata.line).join(""))).toContain(begin.slice(0, 5));
        }
        expect(new Set(chunks.map(({ id }) => id)).size).toBe(chunks.length);
      }),
    );
  });

  it("of plain text hold every letter once and in order", () => {
    fc.assert(
      fc.property(document, (text) => {
        const { chunks } = chunkDocument("a.txt", text, "text");
        expect(letters(chunks.map((chunk) => chunk.text).join(""))).toBe(letters(text.replace(/^\uFEFF/, "")));
      }),
    );
  });

  it("are the same for the same document", () => {
    fc.assert(
      fc.property(document, (text) => {
        expect(chunkDocument("a", text, "markdown")).toEqual(chunkDocument("a", text, "markdown"));
      }),
    );
  });
});
