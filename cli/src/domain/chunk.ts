import { createHash } from "node:crypto";
import { type Block, markdownBlocks, textBlocks } from "./chunk-blocks.js";
import { estimateTokens, splitBlock } from "./chunk-split.js";
import type { DocumentKind } from "./documents.js";

/** Raised when the same document would be cut differently, so that a new version chunks everything again. */
export const chunkerVersion = 1;

/** One searchable piece of a document, as it is stored in the index. */
export interface Chunk {
  id: string;
  /** What is embedded: the headings above the piece, then the piece. */
  text: string;
  metadata: Readonly<Record<string, unknown>> & { source: string; line: number; heading: string; hash: string };
}

export interface Chunked {
  chunks: readonly Chunk[];
  /** Parts of the document that could not be used: `line 7: it is no JSON`. */
  problems: readonly string[];
}

/** all-MiniLM reads 256 tokens; measured on dense technical prose, up to 1.25 real tokens come for one estimated. */
const tokenLimit = 205;
const headingTokens = 40;

/** Cuts a document into chunks that each fit the embedding model, and says where each one starts. */
export function chunkDocument(source: string, text: string, kind: DocumentKind): Chunked {
  const withoutMark = text.replace(/^\uFEFF/, "");
  if (kind === "jsonl") return chunkJsonLines(source, withoutMark);
  const pieces = cut(kind === "markdown" ? markdownBlocks(withoutMark) : textBlocks(withoutMark));
  return { chunks: pieces.map((piece, n) => makeChunk(`${source}#${String(n)}`, source, piece, {})), problems: [] };
}

function chunkJsonLines(source: string, text: string): Chunked {
  const chunks: Chunk[] = [];
  const problems: string[] = [];
  text.split("\n").forEach((raw, n) => {
    if (raw.trim() === "") return;
    const record = readRecord(raw);
    if (typeof record === "string") {
      problems.push(`line ${String(n + 1)}: ${record}`);
      return;
    }
    const id = record.id ?? `${source}#${String(n)}`;
    const pieces = cut(textBlocks(record.text));
    for (const [part, piece] of pieces.entries()) {
      const name = pieces.length === 1 ? id : `${id}#${String(part)}`;
      chunks.push(makeChunk(name, source, { ...piece, line: n + 1 }, record.metadata));
    }
  });
  return { chunks, problems };
}

function readRecord(raw: string): { id: string | null; text: string; metadata: Record<string, unknown> } | string {
  let record: unknown;
  try {
    record = JSON.parse(raw);
  } catch {
    return "it is no JSON";
  }
  if (typeof record !== "object" || record === null || Array.isArray(record)) return "it is no JSON object";
  const { id, text, metadata } = record as Record<string, unknown>;
  if (typeof text !== "string" || text.trim() === "") return "it has no `text`";
  if (id !== undefined && typeof id !== "string" && typeof id !== "number") return "its `id` is neither text nor a number";
  if (metadata !== undefined && (typeof metadata !== "object" || metadata === null || Array.isArray(metadata)))
    return "its `metadata` is no object";
  return { id: id === undefined ? null : String(id), text, metadata: (metadata ?? {}) as Record<string, unknown> };
}

interface Piece {
  line: number;
  text: string;
  headings: readonly string[];
}

/** Neighbouring blocks under the same headings share a chunk while they fit. */
function cut(blocks: readonly Block[]): Piece[] {
  const pieces: (Piece & { tokens: number })[] = [];
  for (const block of blocks.flatMap((one) => splitBlock(one, tokenLimit - headingCost(one.headings)))) {
    const last = pieces.at(-1);
    const tokens = estimateTokens(block.text);
    const room = tokenLimit - headingCost(block.headings);
    if (last !== undefined && sameHeadings(last.headings, block.headings) && last.tokens + tokens <= room) {
      last.text += `\n\n${block.text}`;
      last.tokens += tokens;
    } else pieces.push({ line: block.line, text: block.text, headings: block.headings, tokens });
  }
  return pieces;
}

function makeChunk(id: string, source: string, piece: Piece, extra: Readonly<Record<string, unknown>>): Chunk {
  const heading = headingOf(piece.headings);
  const text = heading === "" ? piece.text : `${heading}\n\n${piece.text}`;
  const hash = createHash("sha256")
    .update(JSON.stringify([chunkerVersion, text, extra]))
    .digest("hex")
    .slice(0, 32);
  return { id, text, metadata: { ...extra, source, line: piece.line, heading, hash } };
}

/** `Deploy > Rollback`: the innermost headings count most when there is no room for all. */
function headingOf(headings: readonly string[]): string {
  for (let from = 0; from < headings.length; from += 1) {
    const path = headings.slice(from).join(" > ");
    if (estimateTokens(path) <= headingTokens) return path;
  }
  return "";
}

const headingCost = (headings: readonly string[]): number => estimateTokens(headingOf(headings));

const sameHeadings = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((title, n) => title === b[n]);
