import { ConfigInvalid } from "../errors.js";

/** A directive with its arguments, and the lines of its block if it has one. */
export interface Directive {
  words: readonly string[];
  block?: readonly Line[];
}

/** A line of a Caddyfile: a directive, or a comment that explains the next one. */
export type Line = Directive | { comment: string };

export const directive = (...words: readonly string[]): Directive => ({ words });
export const withBlock = (words: readonly string[], block: readonly Line[]): Directive => ({ words, block });
export const remark = (comment: string): Line => ({ comment });

/** A Caddyfile, indented with tabs as `caddy fmt` does. Throws ConfigInvalid for a word that could mean something else in one. */
export function caddyfile(lines: readonly Line[]): string {
  const text = lines.flatMap((line, i) => [...(i === 0 || !opensParagraph(lines, i) ? [] : [""]), ...render(line, "")]);
  return `${text.join("\n")}\n`;
}

/** A block at the top level stands apart, together with the comments above it. */
function opensParagraph(lines: readonly Line[], i: number): boolean {
  const before = lines[i - 1];
  return before !== undefined && !("comment" in before);
}

function render(line: Line, indent: string): readonly string[] {
  if ("comment" in line) return line.comment.split("\n").map((each) => `${indent}# ${each.replaceAll(/[\r\0]/g, " ")}`);
  const words = line.words.map(word).join(" ");
  if (line.block === undefined) return [indent + words];
  const open = words === "" ? "{" : `${words} {`;
  return [indent + open, ...line.block.flatMap((each) => render(each, `${indent}\t`)), `${indent}}`];
}

/** Placeholders that we use ourselves, and arguments of our own snippets. */
const ours = new Set(["{http.request.uuid}", "{args[0]}", "{args[1]}", "{args[2]}"]);

/**
 * One word as Caddy's lexer reads it back: plain where it can be, else in double quotes. What would be a variable (`{$…}`), a
 * placeholder (`{…}`), a block or a quote is refused, not escaped: none of our values has a use for it.
 */
export function word(text: string): string {
  if (ours.has(text) || /^[A-Za-z0-9@/_.:,*+=|()[\]-]+$/.test(text)) return text;
  if (!/^[^{}"`\\\p{Cc}]*$/u.test(text)) {
    throw new ConfigInvalid(`${JSON.stringify(text)} cannot stand in the proxy's configuration`, {
      because: "it holds a brace, a quote, a backslash or a control character, which mean something there",
      nextSteps: ["change it in gpuctl.yaml"],
    });
  }
  return `"${text}"`;
}
