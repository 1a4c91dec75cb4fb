import type { z } from "zod";
import { dotted, type Path, type Problem, type SourceDocument } from "./source.js";
import { nearest } from "./suggest.js";
import { keysAt } from "./schema-keys.js";

type Issue = z.core.$ZodIssue;

/** Turns what the schema says into problems with a place, all of them, best explanation first. */
export function problemsFromIssues(issues: readonly Issue[], schema: z.ZodType, document: SourceDocument): Problem[] {
  const problems = issues.flatMap((issue) => fromIssue(issue, [], schema, document));
  const mistyped = new Set(
    problems.flatMap(({ code, path, guess }) => (code === "unknown-key" && path && guess ? [besides(path, guess)] : [])),
  );
  return problems.filter(({ code, path }) => code !== "missing-key" || path === null || !mistyped.has(path));
}

/** The path of a sibling: a key that is missing because it was mistyped is reported once. */
const besides = (path: string, sibling: string): string => path.replace(/(^|\.)[^.]*$/, `$1${sibling}`);

function fromIssue(issue: Issue, prefix: Path, schema: z.ZodType, document: SourceDocument): Problem[] {
  const path = [...prefix, ...(issue.path as Path)];
  switch (issue.code) {
    case "unrecognized_keys":
      return unknownKeys(issue.keys, path, keysAt(schema, path, document.value), document);
    case "invalid_union":
      return fromUnion(issue, path, schema, document);
    case "invalid_key":
      return issue.issues.slice(0, 1).map((inner) => problem("bad-name", inner.message, path, document, "key"));
    case "invalid_type":
      return [wrongType(issue, path, document)];
    case "invalid_value":
      return [wrongValue(issue.values.map(String), issue.message, path, document)];
    default:
      return [problem("bad-value", `${issue.message}, found ${describe(valueAt(document.value, path))}`, path, document)];
  }
}

/** Of the branches of a union, the one the author was writing: the first whose complaint is not about the kind of value itself. */
function fromUnion(
  issue: Extract<Issue, { code: "invalid_union" }>,
  path: Path,
  schema: z.ZodType,
  document: SourceDocument,
): Problem[] {
  const value = valueAt(document.value, path);
  if (issue.errors.length === 0) {
    const options =
      "options" in issue && Array.isArray(issue.options)
        ? issue.options.filter((option) => option !== undefined && option !== null).map(String)
        : [];
    return [wrongValue(options, issue.message, path, document)];
  }
  const deeper = issue.errors.filter(
    (branch) => !branch.some((inner) => inner.path.length === 0 && inner.code !== "unrecognized_keys"),
  );
  const branch = [...deeper].sort((left, right) => strangeness(left) - strangeness(right))[0];
  if (branch) return branch.flatMap((inner) => fromIssue(inner, path, schema, document));
  if (issue.message !== "Invalid input")
    return [problem("bad-value", `${issue.message}, found ${describe(value)}`, path, document)];
  const words = issue.errors.flat().flatMap((inner) => (inner.code === "invalid_value" ? inner.values.map(String) : []));
  const sentence = issue.errors.flat().find((inner) => inner.message.startsWith("expected "));
  if (words.length > 0) return [wrongValue(words, issue.message, path, document)];
  return [problem("bad-value", `${sentence?.message ?? "not a value that fits here"}, found ${describe(value)}`, path, document)];
}

const strangeness = (branch: readonly Issue[]): number =>
  branch.reduce((sum, inner) => sum + (inner.code === "unrecognized_keys" ? inner.keys.length : 1), 0);

function unknownKeys(keys: readonly string[], path: Path, known: readonly string[], document: SourceDocument): Problem[] {
  return keys.map((key) => {
    const guess = nearest(key, known);
    const merge = key === "<<" ? "merge keys are not part of YAML 1.2: write the settings out" : null;
    const hint = merge ?? didYouMean(guess) ?? (known.length > 0 ? `known here: ${known.join(", ")}` : null);
    return { ...problem("unknown-key", `unknown key ${JSON.stringify(key)}`, [...path, key], document, "key", hint), guess };
  });
}

function wrongType(issue: Extract<Issue, { code: "invalid_type" }>, path: Path, document: SourceDocument): Problem {
  const value = valueAt(document.value, path);
  if (value === undefined) {
    const name = dotted(path.slice(-1));
    const example = issue.message.startsWith("expected ") ? `${name}: ${issue.message}` : null;
    return problem("missing-key", `missing key "${name}"`, path, document, "value", example);
  }
  const message = issue.message.startsWith("Invalid input") ? `expected ${article(issue.expected)}` : issue.message;
  return problem(
    "wrong-type",
    `${message}, found ${describe(value)}`,
    path,
    document,
    "value",
    typeHint(issue.expected, value, issue.message.startsWith("Invalid input")),
  );
}

function typeHint(expected: string, value: unknown, plain: boolean): string | null {
  if (value === null && isMap(expected)) return "write {} for an empty one";
  if (plain && expected === "string" && ["number", "boolean"].includes(typeof value))
    return "put it in quotes if it is meant as text";
  const numeric = ["int", "number"].includes(expected) && typeof value === "string" && /^\d+$/.test(value);
  return numeric ? "write the number without quotes" : null;
}

function wrongValue(allowed: readonly string[], message: string, path: Path, document: SourceDocument): Problem {
  const value = valueAt(document.value, path);
  const guess = typeof value === "string" ? nearest(value, allowed) : null;
  const hint = didYouMean(guess);
  const list = allowed.length === 1 ? `expected ${allowed[0] ?? ""}` : `expected one of ${allowed.join(", ")}`;
  const said = message.startsWith("Invalid ") ? list : message;
  if (value === undefined)
    return problem("missing-key", `missing key "${dotted(path.slice(-1))}"`, path, document, "value", said);
  return { ...problem("bad-value", `${said}, found ${describe(value)}`, path, document, "value", hint), guess };
}

const didYouMean = (guess: string | null): string | null => (guess === null ? null : `did you mean "${guess}"?`);

/** A problem at a path, with its place in the file. */
export function problem(
  code: string,
  message: string,
  path: Path,
  document: SourceDocument,
  part: "key" | "value" = "value",
  hint: string | null = null,
  severity: Problem["severity"] = "error",
): Problem {
  return {
    severity,
    code,
    message,
    span: document.locate(path, part),
    path: path.length > 0 ? dotted(path) : null,
    hint,
    guess: null,
  };
}

/** The value at a path of plain data, own keys only. */
export function valueAt(root: unknown, path: Path): unknown {
  let value = root;
  for (const part of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}

const isMap = (expected: string): boolean => expected === "object" || expected === "record";

function article(expected: string): string {
  const words: Record<string, string> = {
    object: "a map",
    record: "a map",
    array: "a list",
    string: "text",
    int: "a whole number",
    boolean: "true or false",
  };
  return words[expected] ?? `a ${expected}`;
}

/** A value as a person would name it; never longer than a few words. */
export function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "nothing (null)";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a map";
  if (typeof value === "string") return value.length > 40 ? `text of ${value.length} characters` : JSON.stringify(value);
  if (typeof value === "number") return `the number ${value}`;
  return typeof value === "boolean" ? `the word ${value}` : `a ${typeof value}`;
}
