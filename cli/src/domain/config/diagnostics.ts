import { lineAndColumn, placesIn, type Problem, type SourceDocument } from "./source.js";

/** A problem with its place worked out, as `--json` prints it. Lines and columns are from 1. */
export interface Diagnostic {
  severity: Problem["severity"];
  code: string;
  file: string;
  line: number;
  column: number;
  path: string | null;
  message: string;
  hint: string | null;
}

/** Columns of source shown around a caret; a longer line is cut on both sides. */
const shownWidth = 100;
/** Problems printed before the rest is only counted: a file of garbage must not scroll for minutes. */
const shownProblems = 100;

export function toDiagnostics(problems: readonly Problem[], document: SourceDocument): Diagnostic[] {
  const placeOf = placesIn(document.text);
  return inOrder(problems).map(({ severity, code, span, path, message, hint }) => {
    return { severity, code, file: document.file, ...placeOf(span?.start ?? 0), path, message, hint };
  });
}

/** Problems in the order of the file, errors before warnings at one place. */
export function inOrder(problems: readonly Problem[]): Problem[] {
  const start = (problem: Problem): number => problem.span?.start ?? 0;
  return [...problems].sort((left, right) => start(left) - start(right) || left.severity.localeCompare(right.severity));
}

/**
 * All problems as people read them: `file:line:column`, what is wrong, the line itself and a caret under the place.
 * Everything from the file is made harmless for a terminal first.
 */
export function renderProblems(problems: readonly Problem[], document: SourceDocument): string {
  const ordered = inOrder(problems);
  const blocks = ordered.slice(0, shownProblems).map((problem) => renderProblem(problem, document));
  if (ordered.length > shownProblems) blocks.push(`... and ${ordered.length - shownProblems} more`);
  return blocks.join("\n\n");
}

function renderProblem(problem: Problem, document: SourceDocument): string {
  const { line, column } = lineAndColumn(document.text, problem.span?.start ?? 0);
  const head = `${document.file}:${line}:${column}: ${problem.severity}: ${printable(problem.message)}`;
  const source = problem.span === null ? [] : excerpt(document.text, line, column, problem.span.end - problem.span.start);
  const hint = problem.hint === null ? [] : [`  = ${printable(problem.hint)}`];
  return [head, ...source, ...hint].join("\n");
}

/** The line with its number, and carets under the span (at least one, never past the line). */
function excerpt(text: string, line: number, column: number, length: number): string[] {
  const whole = (text.split("\n", line)[line - 1] ?? "").replace(/\r$/, "");
  const cut = Math.max(0, column - 1 - Math.floor(shownWidth / 2));
  const shown = whole.slice(cut, cut + shownWidth);
  const before = `${cut > 0 ? "…" : ""}${printable(whole.slice(cut, column - 1))}`;
  const room = Math.max(1, cut + shown.length - (column - 1));
  const marked = printable(whole.slice(column - 1, column - 1 + Math.min(Math.max(1, length), room)));
  const number = String(line);
  const gutter = " ".repeat(number.length);
  const body = `${cut > 0 ? "…" : ""}${printable(shown)}${cut + shown.length < whole.length ? "…" : ""}`;
  return [
    `  ${number} | ${body}`.trimEnd(),
    `  ${gutter} | ${" ".repeat(width(before))}${"^".repeat(Math.max(1, width(marked)))}`,
  ];
}

/** Control characters (which could drive a terminal) and invisible ones become visible; a tab becomes one space, as wide as a caret. */
export function printable(text: string): string {
  return text
    .replaceAll("\t", " ")
    .replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}

/** Terminal columns of printable text, near enough: East Asian and emoji characters take two. */
function width(text: string): number {
  let columns = 0;
  for (const character of text) {
    columns +=
      /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u.test(
        character,
      )
        ? 2
        : /\p{Mn}/u.test(character)
          ? 0
          : 1;
  }
  return columns;
}
