import { type Chunk, chunkDocument } from "../domain/chunk.js";
import { documentKind } from "../domain/documents.js";
import type { DocumentReader, Progress } from "../ports.js";
import { AddQueue } from "./index-add-queue.js";
import { chunksOfGoneFiles, deleteChunks, storedChunks } from "./index-add-stored.js";
import type { ServiceAddress } from "./service-address.js";
import type { CallTools } from "./service-call.js";
import { field } from "../bench/workload.js";

export interface IndexAddTools extends CallTools {
  progress: Progress;
  documents: DocumentReader;
}

export interface IndexAddRequest {
  paths: readonly string[];
  namespace: string;
  /** Texts embedded by one request. */
  batch: number;
  embedder: ServiceAddress;
  index: ServiceAddress;
}

export interface IndexAddResult {
  namespace: string;
  files: number;
  chunks: number;
  added: number;
  updated: number;
  unchanged: number;
  deleted: number;
  /** Files whose chunks were deleted because they are no longer on the disk. */
  filesGone: number;
  /** Chunks that were longer than the model reads; their ends cannot be found. */
  truncated: number;
  skipped: readonly { source: string; because: string }[];
  seconds: number;
  chunksPerSecond: number;
}

/**
 * Brings the index up to date with documents: new and changed chunks are embedded and added, unchanged ones are left alone,
 * chunks that a file no longer has are deleted, and so are those of files that are gone from a given directory. What was added stays when it is interrupted, and a second run goes on from there.
 */
export async function indexAdd(tools: IndexAddTools, request: IndexAddRequest): Promise<IndexAddResult> {
  const began = tools.clock.monotonic();
  const total = await tools.documents.measure(request.paths, tools.signal);
  const skipped: { source: string; because: string }[] = [];
  const queue = new AddQueue(tools, request);
  const ids = new Set<string>();
  const gone: string[] = [];
  const counts = { files: 0, chunks: 0, unchanged: 0 };
  let read = 0;
  for await (const file of tools.documents.read(request.paths, tools.signal)) {
    tools.signal.throwIfAborted();
    const chunks = chunksOf(file, skipped, tools.progress, ids);
    if (!("skipped" in file)) {
      const stored = await storedChunks(tools, request, file.source);
      const wanted = chunks.filter((chunk) => !isStored(chunk, stored));
      counts.files += 1;
      counts.chunks += chunks.length;
      counts.unchanged += chunks.length - wanted.length;
      gone.push(...[...stored.keys()].filter((id) => !chunks.some((chunk) => chunk.id === id)));
      for (const chunk of wanted) await queue.add(chunk);
    }
    read += 1;
    report(tools, began, { read, files: total.files, chunks: counts.chunks });
  }
  await queue.finish();
  const left = await chunksOfGoneFiles(tools, request, request.paths);
  const superfluous = [...new Set([...gone, ...left.ids])].filter((id) => !ids.has(id));
  const deleted = await deleteChunks(tools, request, superfluous);
  const seconds = (tools.clock.monotonic() - began) / 1000;
  const { added, updated, truncated } = queue.counts;
  if (truncated > 0)
    warn(tools.progress, `${String(truncated)} chunks are longer than the model reads: their ends cannot be found`);
  const chunksPerSecond = seconds > 0 ? counts.chunks / seconds : 0;
  return {
    namespace: request.namespace,
    ...counts,
    added,
    updated,
    deleted,
    filesGone: left.files,
    truncated,
    skipped,
    seconds,
    chunksPerSecond,
  };
}

/** The chunks of one file. What cannot be used is said at once, with the file's name. */
function chunksOf(
  file: { source: string; text: string } | { source: string; skipped: string },
  skipped: { source: string; because: string }[],
  progress: Progress,
  ids: Set<string>,
): Chunk[] {
  if ("skipped" in file) {
    skipped.push({ source: file.source, because: file.skipped });
    warn(progress, `${file.source} was skipped: ${file.skipped}`);
    return [];
  }
  const { chunks, problems } = chunkDocument(file.source, file.text, documentKind(file.source) ?? "text");
  for (const problem of problems) {
    skipped.push({ source: file.source, because: problem });
    warn(progress, `${file.source}, ${problem}: left out`);
  }
  return chunks.filter((chunk) => {
    const first = !ids.has(chunk.id);
    ids.add(chunk.id);
    if (!first) {
      skipped.push({ source: file.source, because: `line ${String(chunk.metadata.line)}: the id ${chunk.id} was there before` });
      warn(
        progress,
        `${file.source}, line ${String(chunk.metadata.line)}: the id ${chunk.id} was there before, this one is left out`,
      );
    }
    return first;
  });
}

/** Equal content under another line or heading is stored anew: the place is part of the answer. */
function isStored(chunk: Chunk, stored: ReadonlyMap<string, unknown>): boolean {
  const metadata = stored.get(chunk.id);
  return (["hash", "line", "heading"] as const).every((name) => field(metadata, name) === chunk.metadata[name]);
}

function report(tools: IndexAddTools, began: number, state: { read: number; files: number; chunks: number }): void {
  const seconds = (tools.clock.monotonic() - began) / 1000;
  const perSecond = seconds > 0 ? state.read / seconds : 0;
  const eta = perSecond > 0 ? { perSecond, etaSeconds: (state.files - state.read) / perSecond } : {};
  tools.progress.emit({ kind: "amount", label: "index add", done: state.read, total: state.files, unit: "files", ...eta });
}

const warn = (progress: Progress, text: string): void => {
  progress.emit({ kind: "warning", text });
};
