/** Document files to be indexed. */

/** A document file that was looked at. `skipped` says why it was not read. */
export type DocumentFile =
  /** `source` names it in the index: its path relative to the directory that was asked for, with forward slashes. */
  { source: string; text: string } | { source: string; skipped: string };

export interface DocumentReader {
  /** Files below the paths that hold documents, by name order, read one at a time. Throws UsageError for a path that does not exist. */
  read(paths: readonly string[], signal: AbortSignal): AsyncIterable<DocumentFile>;
  /** How many files `read` will give, and their bytes. */
  measure(paths: readonly string[], signal: AbortSignal): Promise<{ files: number; bytes: number }>;
  /** What the sources of files below the paths begin with: `docs/` for a directory, nothing for a file. */
  prefixes(paths: readonly string[]): Promise<readonly string[]>;
  /** Whether the file that a source names is certainly no longer there; in doubt it is. */
  isGone(source: string): Promise<boolean>;
}
