import {
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
  type Document,
  type Node,
  type Pair,
} from "yaml";
import { dotted, lineAndColumn, type Path, type Problem, type SourceDocument, type Span } from "../../domain/config/source.js";

/** Uses of aliases in one file. A configuration needs a handful; a "billion laughs" file needs thousands. */
const maxAliases = 100;
const maxDepth = 64;

/** Parses YAML 1.2 text. Never throws: whatever is wrong is among the document's problems. */
export function parseYaml(file: string, text: string): SourceDocument {
  const broken = (code: string, message: string, span: Span | null, hint: string | null = null): SourceDocument => ({
    file,
    text,
    value: undefined,
    problems: [{ severity: "error", code, message, span, path: null, hint }],
    locate: () => null,
  });
  const nul = text.indexOf("\0");
  if (nul !== -1) return broken("binary", "the file holds a NUL byte, so it is not text", { start: nul, end: nul + 1 });
  const deep = tooDeep(text);
  if (deep !== null) return broken("too-deep", `nested more than ${maxDepth} levels deep`, { start: deep, end: deep + 1 });
  try {
    return describeDocument(file, text);
  } catch (error) {
    if (error instanceof RangeError) return broken("too-deep", "nested too deeply to be read", null);
    if (error instanceof ReferenceError) {
      return broken(
        "alias-bomb",
        `aliases expand to more than ${maxAliases} copies`,
        aliasSpan(text),
        "write the values out instead of multiplying them by aliases",
      );
    }
    return broken("syntax", error instanceof Error ? error.message : String(error), null);
  }
}

function describeDocument(file: string, text: string): SourceDocument {
  const body = text.startsWith("\uFEFF") ? ` ${text.slice(1)}` : text;
  const document = parseDocument(body, {
    lineCounter: new LineCounter(),
    prettyErrors: false,
    uniqueKeys: false,
    stringKeys: true,
    version: "1.2",
  });
  const problems: Problem[] = [
    ...document.errors.map((error) => syntaxProblem(error.code, error.message, error.pos, text, "error" as const)),
    ...document.warnings.map((warning) => syntaxProblem(warning.code, warning.message, warning.pos, text, "warning" as const)),
    ...keyProblems(document, text),
  ];
  const usable = document.errors.length === 0;
  const value: unknown = usable ? document.toJS({ maxAliasCount: maxAliases }) : undefined;
  return { file, text, value, problems, locate: (path, part) => locate(document, path, part, text.length) };
}

/** Offset of the first bracket beyond the depth limit; counted before parsing because the parser recurses. */
function tooDeep(text: string): number | null {
  let depth = 0;
  for (let offset = 0; offset < text.length; offset++) {
    const character = text[offset];
    if (character === "[" || character === "{") depth += 1;
    else if (character === "]" || character === "}") depth = Math.max(0, depth - 1);
    else if (character === "\n" && depth > 0 && /^\S/.test(text.slice(offset + 1, offset + 2))) depth = 0;
    if (depth > maxDepth) return offset;
  }
  return null;
}

function aliasSpan(text: string): Span | null {
  const found = /[:\-,[\s]\*[A-Za-z0-9_-]+/.exec(text);
  return found ? { start: found.index + 1, end: found.index + found[0].length } : null;
}

const friendly: Readonly<Record<string, { message: string; hint: string | null }>> = {
  TAB_AS_INDENT: { message: "a tab is used for indentation", hint: "YAML indents with spaces only: use two spaces" },
  MULTIPLE_DOCS: { message: "the file holds more than one YAML document", hint: "remove everything from the second --- on" },
  BAD_INDENT: { message: "the indentation does not line up with the lines above", hint: null },
  NON_STRING_KEY: { message: "a key must be plain text", hint: null },
};

function syntaxProblem(
  code: string,
  message: string,
  at: readonly [number, number],
  text: string,
  severity: Problem["severity"],
): Problem {
  const known = friendly[code];
  const start = Math.min(at[0], text.length);
  const said = (known?.message ?? message).replaceAll(/\s+/g, " ").trim();
  return {
    severity,
    code: `yaml-${code.toLowerCase().replaceAll("_", "-")}`,
    message: said,
    span: { start, end: Math.max(start, Math.min(at[1], text.length)) },
    path: null,
    hint: known?.hint ?? null,
  };
}

/** Duplicate keys (in linear time, and naming the first one) and keys that would change an object's prototype. */
function keyProblems(document: Document, text: string): Problem[] {
  const problems: Problem[] = [];
  visit(document, {
    Map(_, map) {
      const seen = new Map<string, number>();
      for (const pair of map.items) {
        if (!isScalar(pair.key) || typeof pair.key.value !== "string") continue;
        const key = pair.key.value;
        const start = pair.key.range?.[0] ?? 0;
        const span = { start, end: Math.max(start, pair.key.range?.[1] ?? start) };
        const first = seen.get(key);
        const common = { severity: "error" as const, span, path: null };
        if (key === "__proto__")
          problems.push({ ...common, code: "bad-name", message: '"__proto__" cannot be used as a key', hint: null });
        if (first === undefined) seen.set(key, start);
        else {
          const line = lineAndColumn(text, first).line;
          problems.push({
            ...common,
            code: "duplicate-key",
            message: `${dotted([key])} is given twice`,
            hint: `first on line ${line}; keep one`,
          });
        }
      }
    },
  });
  return problems;
}

/** Follows a path through maps, lists and aliases; stops at the nearest node that exists. */
function locate(document: Document, path: Path, part: "key" | "value", length: number): Span | null {
  let node: Node | null = document.contents;
  let span = rangeOf(node, length);
  for (const [depth, key] of path.entries()) {
    const target: Node | null = isAlias(node) ? (node.resolve(document) ?? null) : node;
    const pair: Pair | null = isMap(target)
      ? (target.items.find((item) => isScalar(item.key) && item.key.value === key) ?? null)
      : null;
    const next: unknown = pair ? pair.value : isSeq(target) && typeof key === "number" ? target.items[key] : undefined;
    if (pair === null && next === undefined) return missingSpan(path, depth, document, length) ?? span;
    const keySpan = rangeOf(pair?.key as Node | null, length);
    const last = depth === path.length - 1;
    node = isPair(next) ? null : ((next ?? null) as Node | null);
    const valueSpan = rangeOf(node, length);
    const empty = valueSpan === null || valueSpan.start === valueSpan.end;
    span = (last && part === "key") || empty ? (keySpan ?? span) : valueSpan;
  }
  return span;
}

/** A missing key is shown at the key of the map that lacks it, not at the whole map. */
function missingSpan(path: Path, depth: number, document: Document, length: number): Span | null {
  return depth === 0 ? null : locate(document, path.slice(0, depth), "key", length);
}

function rangeOf(node: Node | null | undefined, length: number): Span | null {
  const range = node?.range;
  if (!range) return null;
  const start = Math.min(range[0], length);
  return { start, end: Math.max(start, Math.min(range[1], length)) };
}
