import type { Block } from "./chunk-blocks.js";

/**
 * Tokens a WordPiece or SentencePiece model is likely to make of a text, rather more than fewer: the tokenizer itself lives
 * in the service. Letters come in pieces of about 7, digits of 3; a mark or an ideograph is a token of its own.
 */
export function estimateTokens(text: string): number {
  let tokens = 0;
  for (const [piece] of text.matchAll(
    /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]|[\p{L}\p{M}]+|\p{N}+|[^\s\p{L}\p{M}\p{N}]/gu,
  )) {
    if (/^\p{N}/u.test(piece)) tokens += Math.ceil(piece.length / 3);
    else tokens += /^[\x20-\x7e]/.test(piece) ? Math.ceil(piece.length / 7) : Math.ceil(piece.length / 3);
  }
  return tokens;
}

/** Cuts a block that is too long: code and tables between lines, prose between sentences, and only then between words. */
export function splitBlock(block: Block, limit: number): Block[] {
  if (estimateTokens(block.text) <= limit) return [block];
  const parts = block.kind === "code" ? lineParts(block.text) : proseParts(block.text);
  const small = parts.flatMap((part) => (estimateTokens(part) <= limit ? [part] : wordParts(part, limit)));
  const pieces: Block[] = [];
  let line = block.line;
  for (const text of joined(small, limit)) {
    const lead = text.length - text.trimStart().length;
    pieces.push({ ...block, text: text.trim(), line: line + newlines(text.slice(0, lead)) });
    line += newlines(text);
  }
  return pieces.filter(({ text }) => text !== "");
}

/** Neighbouring parts together, as many as fit. Nothing is dropped: the parts joined are the text. */
function joined(parts: readonly string[], limit: number): string[] {
  const out: string[] = [];
  let size = 0;
  for (const part of parts) {
    const tokens = estimateTokens(part);
    if (out.length > 0 && size + tokens <= limit) {
      out.push((out.pop() ?? "") + part);
      size += tokens;
    } else {
      out.push(part);
      size = tokens;
    }
  }
  return out;
}

const lineParts = (text: string): string[] => text.split(/(?<=\n)/);

/** Sentences with the space behind them; a line that starts a list item, a table row or a quote starts a part as well. */
const proseParts = (text: string): string[] =>
  text.split(/(?<=[.!?…。!?]["')\]]?\s+)(?=\S)|(?<=\n)(?=\s*(?:[-*+|>]|\d+[.)]) ?)/u);

function wordParts(text: string, limit: number): string[] {
  return text.split(/(?<=\s)(?=\S)/).flatMap((word) => (estimateTokens(word) <= limit ? [word] : slices(word, limit)));
}

/** A "word" can be a megabyte of base64. Every slice fits: a character is at most one token. */
function slices(word: string, limit: number): string[] {
  const characters = Array.from(word);
  const out: string[] = [];
  for (let from = 0; from < characters.length; from += limit) out.push(characters.slice(from, from + limit).join(""));
  return out;
}

const newlines = (text: string): number => text.split("\n").length - 1;
