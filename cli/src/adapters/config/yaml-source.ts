import {
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  parseDocument,
  visit,
  type Document,
  type Node,
  type Pair,
  type YAMLMap,
  type YAMLParseError,
  type YAMLWarning,
} from "yaml";
import { dotted, placesIn, type Path, type Problem, type SourceDocument, type Span } from "../../domain/config/source.js";

/** Uses of aliases in one file. A configuration needs a handful; a "billion laughs" file needs thousands. */
const maxAliases = 100;
const maxDepth = 64;

/** Parses YAML 1.2 text. Never throws: whatever is wrong is among the document's problems. */
export function parseYaml(file: string, source: string): SourceDocument {
  const text = source.replace(/^\uFEFF/, "");
  const nul = text.indexOf("\0");
  if (nul !== -1)
    return broken(file, text, problemAt("binary", "the file holds a NUL byte, so it is not text", { start: nul, end: nul + 1 }));
  const deep = tooDeep(text);
  if (deep !== null) return broken(file, text, problemAt("too-deep", tooDeepMessage, { start: deep, end: deep + 1 }));
  try {
    return describeDocument(file, text);
  } catch (error) {
    if (error instanceof RangeError) return broken(file, text, problemAt("too-deep", tooDeepMessage, null));
    // What the parser throws in place of reporting is its own defect; it is still about this file.
    return broken(file, text, problemAt("syntax", error instanceof Error ? error.message : String(error), null));
  }
}

const tooDeepMessage = `nested more than ${maxDepth} levels deep`;

/** A document of which nothing but its problems is known. */
function broken(file: string, text: string, ...problems: Problem[]): SourceDocument {
  return { file, text, value: undefined, problems, locate: () => null };
}

function describeDocument(file: string, text: string): SourceDocument {
  const options = { prettyErrors: false, uniqueKeys: false, stringKeys: true, version: "1.2" } as const;
  const document = parseDocument(text, options);
  const overflow = document.errors.find((error) => error.message.startsWith("Maximum call stack"));
  if (overflow)
    return broken(file, text, problemAt("too-deep", tooDeepMessage, { start: overflow.pos[0], end: overflow.pos[0] + 1 }));
  const syntax = [
    ...document.errors.map((error) => syntaxProblem(error, text, "error")),
    ...document.warnings.map((warning) => syntaxProblem(warning, text, "warning")),
    ...aliasProblems(document),
  ];
  const problems = [...syntax, ...keyProblems(document, text)];
  if (syntax.some(({ severity }) => severity === "error")) return broken(file, text, ...problems);
  const value = expanded(document);
  if (value === aliasBomb) {
    const hint = "write the values out instead of multiplying them by aliases";
    return broken(
      file,
      text,
      ...problems,
      problemAt("alias-bomb", `aliases would expand to more than ${maxAliases} copies`, lastAlias(document), hint),
    );
  }
  return { file, text, value, problems, locate: locator(document, text.length) };
}

function problemAt(code: string, message: string, span: Span | null, hint: string | null = null): Problem {
  return { severity: "error", code, message, span, path: null, hint, guess: null };
}

const aliasBomb = Symbol("aliases that multiply");

/** Plain data, or the sign that its aliases would multiply ("billion laughs"). */
function expanded(document: Document): unknown {
  try {
    return document.toJS({ maxAliasCount: maxAliases });
  } catch (error) {
    if (error instanceof ReferenceError) return aliasBomb;
    throw error;
  }
}

function lastAlias(document: Document): Span | null {
  let span: Span | null = null;
  visit(document, {
    Alias(_, alias) {
      span = rangeOf(alias, Infinity);
    },
  });
  return span;
}

/** Aliases that name nothing. */
function aliasProblems(document: Document): Problem[] {
  const anchors = new Set<string>();
  const problems: Problem[] = [];
  visit(document, {
    Value(_, node) {
      if (node.anchor !== undefined) anchors.add(node.anchor);
    },
    Alias(_, { source, range }) {
      if (anchors.has(source)) return;
      const span = range ? { start: range[0], end: range[1] } : null;
      problems.push(problemAt("unknown-alias", `the alias *${source} names no anchor before it`, span));
    },
  });
  return problems;
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

const friendly: Readonly<Record<string, { message: string; hint: string | null }>> = {
  TAB_AS_INDENT: { message: "a tab is used for indentation", hint: "YAML indents with spaces only: use two spaces" },
  MULTIPLE_DOCS: { message: "the file holds more than one YAML document", hint: "remove everything from the second --- on" },
  BAD_INDENT: { message: "the indentation does not line up with the lines above", hint: null },
  NON_STRING_KEY: { message: "a key must be plain text", hint: null },
};

type Complaint = Pick<YAMLParseError | YAMLWarning, "code" | "message" | "pos">;

function syntaxProblem(error: Complaint, text: string, severity: Problem["severity"]): Problem {
  const known = friendly[error.code];
  const [start, end] = error.pos.map((offset) => Math.max(0, Math.min(offset, text.length))) as [number, number];
  const message = (known?.message ?? error.message).replaceAll(/\s+/g, " ").trim();
  const code = `yaml-${error.code.toLowerCase().replaceAll("_", "-")}`;
  return { ...problemAt(code, message, { start, end: Math.max(start, end) }, known?.hint ?? null), severity };
}

/** Duplicate keys (in linear time, and naming the first one) and keys that would change an object's prototype. */
function keyProblems(document: Document, text: string): Problem[] {
  const problems: Problem[] = [];
  const placeOf = placesIn(text);
  visit(document, {
    Map(_, map) {
      const seen = new Map<string, number>();
      for (const { key } of map.items) {
        if (!isScalar(key) || typeof key.value !== "string") continue;
        const span = rangeOf(key, text.length) ?? { start: 0, end: 0 };
        const first = seen.get(key.value);
        if (key.value === "__proto__") problems.push(problemAt("bad-name", '"__proto__" cannot be used as a key', span));
        if (first === undefined) seen.set(key.value, span.start);
        else {
          const hint = `first on line ${placeOf(first).line}; keep one`;
          problems.push(problemAt("duplicate-key", `${dotted([key.value])} is given twice`, span, hint));
        }
      }
    },
  });
  return problems;
}

/**
 * Finds values by path, through maps, lists and aliases. A key that is missing is shown at the key of the map that lacks it,
 * and nowhere when that is the whole file.
 */
function locator(document: Document, length: number): SourceDocument["locate"] {
  const pairs = new WeakMap<YAMLMap, Map<unknown, Pair>>();
  const pairIn = (map: YAMLMap, key: string | number): Pair | undefined => {
    let known = pairs.get(map);
    if (!known)
      pairs.set(map, (known = new Map(map.items.map((item) => [isScalar(item.key) ? item.key.value : item.key, item]))));
    return known.get(key);
  };
  return (path: Path, part) => {
    let node: Node | null = document.contents;
    let key: Span | null = null;
    let value = rangeOf(node, length);
    for (const step of path) {
      const target: unknown = isAlias(node) ? node.resolve(document) : node;
      const pair = isMap(target) ? pairIn(target, step) : undefined;
      const next: unknown = pair ? pair.value : isSeq(target) && typeof step === "number" ? target.items[step] : undefined;
      if (pair === undefined && next === undefined) return key;
      node = isNode(next) ? next : null;
      value = rangeOf(node, length);
      key = pair && isNode(pair.key) ? rangeOf(pair.key, length) : value;
    }
    const nothingWritten = value === null || value.start === value.end;
    return part === "key" || nothingWritten ? key : value;
  };
}

function rangeOf(node: Node | null, length: number): Span | null {
  const range = node?.range;
  if (!range) return null;
  const start = Math.min(range[0], length);
  return { start, end: Math.max(start, Math.min(range[1], length)) };
}
