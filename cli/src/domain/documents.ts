/** How a file is cut into chunks. */
export type DocumentKind = "markdown" | "text" | "jsonl";

const kinds: Readonly<Record<string, DocumentKind>> = {
  md: "markdown",
  markdown: "markdown",
  mdx: "markdown",
  txt: "text",
  text: "text",
  rst: "text",
  adoc: "text",
  jsonl: "jsonl",
  ndjson: "jsonl",
};

/** The kind of a file by its name; null for a file that is none of ours (in a directory it is passed over). */
export function documentKind(name: string): DocumentKind | null {
  const extension = /\.([^./\\]+)$/.exec(name)?.[1]?.toLowerCase();
  return extension === undefined ? null : (kinds[extension] ?? null);
}

/** Directories that hold other people's files or none for reading. */
export function passedOver(directory: string): boolean {
  return directory.startsWith(".") || directory === "node_modules" || directory === "__pycache__";
}

/** Files above this are no documents. */
export const maxDocumentBytes = 16 * 1024 * 1024;
