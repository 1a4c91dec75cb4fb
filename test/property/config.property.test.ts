import fc from "fast-check";
import { expect, test } from "vitest";
import { parseYaml } from "../../cli/src/adapters/config/yaml-source.js";
import { firstInvalid } from "../../cli/src/adapters/config/decode.js";
import { renderProblems, toDiagnostics } from "../../cli/src/domain/config/diagnostics.js";
import { formatDuration, formatSize, longestDuration, parseDuration, parseSize } from "../../cli/src/domain/config/quantities.js";
import { placesIn } from "../../cli/src/domain/config/source.js";
import { editDistance, nearest } from "../../cli/src/domain/config/suggest.js";
import { renderTemplate } from "../../cli/src/domain/config/template.js";
import { validateProject } from "../../cli/src/domain/config/validate.js";
import { targetKinds } from "../../cli/src/domain/names.js";
import { ms } from "../../cli/src/domain/units.js";

/** Validates and renders; checks that every place lies inside the text. */
function survives(text: string): void {
  const document = parseYaml("gpuctl.yaml", text);
  const { problems } = validateProject(document);
  for (const { span } of problems) {
    if (span === null) continue;
    expect(span.start).toBeGreaterThanOrEqual(0);
    expect(span.end).toBeGreaterThanOrEqual(span.start);
    expect(span.end).toBeLessThanOrEqual(document.text.length);
  }
  const lines = document.text.split("\n");
  for (const { line, column } of toDiagnostics(problems, document)) {
    expect(line).toBeLessThanOrEqual(lines.length);
    expect(column).toBeLessThanOrEqual((lines[line - 1] ?? "").length + 1);
  }
  expect(renderProblems(problems, document).replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
}

const templates = targetKinds.map((target) => renderTemplate({ target, project: "shop", firstPort: 8001, schema: "./s.json" }));
const uncommented = templates.map((text) => text.replaceAll(/^( {2,})# /gm, "$1"));
const fragments = fc.constantFrom(
  "\t",
  ":",
  "- ",
  "{",
  "}",
  "[",
  "]",
  "*a",
  "&a ",
  "<<: ",
  "!!int ",
  "|\n",
  "? ",
  "\n",
  "\r\n",
  '"',
  "'",
  "#",
  "---\n",
  "%YAML 1.1\n",
  "null",
  "-1",
  "1e99",
  ".nan",
  "__proto__: ",
  "\u0000",
  "\ud800",
  "é",
  "日本",
  "🙂",
  "\u001b[2J",
);

test("no change of a valid file makes the validator throw or point outside of the file", () => {
  const mutation = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    remove: fc.nat(30),
    insert: fc.oneof(fragments, fc.string({ maxLength: 8 })),
  });
  fc.assert(
    fc.property(
      fc.constantFrom(...templates, ...uncommented),
      fc.array(mutation, { minLength: 1, maxLength: 6 }),
      (text, mutations) => {
        const changed = mutations.reduce((now, { at, remove, insert }) => {
          const offset = Math.floor(at * now.length);
          return now.slice(0, offset) + insert + now.slice(offset + remove);
        }, text);
        survives(changed);
      },
    ),
    { numRuns: 400 },
  );
});

test("no value in any place makes the validator throw", () => {
  const paths = [
    "services",
    "services.embedder",
    "services.embedder.device",
    "services.reranker.fallback",
    "environments.local",
    "environments.local.target",
    "models.m",
    "services.index.slo",
    "services.embedder.env",
    "version",
  ];
  fc.assert(
    fc.property(fc.constantFrom(...paths), fc.jsonValue(), (path, value) => {
      const root: Record<string, unknown> = {
        version: 1,
        project: "shop",
        models: { m: { source: "package", package: "x" } },
        services: { embedder: { model: "m" }, reranker: { model: "m" }, index: {} },
        environments: { local: { target: "process" } },
      };
      const keys = path.split(".");
      const parent = keys.slice(0, -1).reduce((map, key) => map[key] as Record<string, unknown>, root);
      parent[keys.at(-1) ?? ""] = value;
      survives(JSON.stringify(root));
    }),
    { numRuns: 300 },
  );
});

test("durations and sizes survive being written and read", () => {
  fc.assert(
    fc.property(fc.nat(longestDuration), fc.maxSafeNat(), (duration, size) => {
      expect(parseDuration(formatDuration(ms(duration)))).toBe(duration);
      if (size < 1e15) expect(parseSize(formatSize(size))).toBe(size);
    }),
  );
});

test("line and column lead back to the offset", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom("a", "\n", "\r\n", "é", "🙂"), { maxLength: 60 }), fc.nat(80), (parts, at) => {
      const text = parts.join("");
      const offset = Math.min(at, text.length);
      const { line, column } = placesIn(text)(offset);
      const start = text
        .split("\n")
        .slice(0, line - 1)
        .reduce((sum, one) => sum + one.length + 1, 0);
      expect(start + column - 1).toBe(offset);
    }),
  );
});

test("the first byte that is not UTF-8 is where a decoder stops", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const offset = firstInvalid(bytes);
      const decode = (part: Uint8Array): string => new TextDecoder("utf-8", { fatal: true }).decode(part);
      expect(() => decode(bytes.subarray(0, offset))).not.toThrow();
      if (offset < bytes.length) expect(() => decode(bytes)).toThrow();
    }),
    { numRuns: 500 },
  );
});

test("edit distance is a distance, and one mistake is always forgiven in a long word", () => {
  const word = fc.string({ minLength: 0, maxLength: 12 });
  fc.assert(
    fc.property(word, word, (a, b) => {
      expect(editDistance(a, b)).toBe(editDistance(b, a));
      expect(editDistance(a, b) === 0).toBe(a === b);
      expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length));
    }),
  );
  fc.assert(
    fc.property(fc.nat(13), fc.constantFrom("", "x", "q"), (at, insert) => {
      const mistyped = "maxBatchTokens".slice(0, at) + insert + "maxBatchTokens".slice(at + 1);
      expect(nearest(mistyped, ["threads", "maxBatchTokens", "deadline", "maxItems"])).toBe("maxBatchTokens");
    }),
  );
});
