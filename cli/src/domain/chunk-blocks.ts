/** A piece of a document that is kept together where it fits. */
export interface Block {
  /** 1-based line it starts at. */
  line: number;
  text: string;
  kind: "paragraph" | "code";
  /** Headings above it, outermost first. */
  headings: readonly string[];
}

const heading = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const fence = /^ {0,3}(`{3,}|~{3,})/;

/** Blocks of a Markdown document: paragraphs (lists and tables count as such) and whole code fences, with their headings. */
export function markdownBlocks(text: string): Block[] {
  const reader = new BlockReader();
  const lines = text.split(/\r?\n/);
  let open: string | null = null;
  for (let n = frontMatterEnd(lines); n < lines.length; n += 1) {
    const line = lines[n] ?? "";
    const mark = fence.exec(line)?.[1];
    if (open !== null) {
      reader.add(line, n);
      // A fence is closed by at least as many of its own marks, with nothing after them.
      if (mark?.startsWith(open) === true && line.trim() === mark) {
        reader.end("code");
        open = null;
      }
    } else if (mark !== undefined) {
      reader.end("paragraph");
      reader.add(line, n);
      open = mark;
    } else readProse(reader, line, n);
  }
  reader.end(open === null ? "paragraph" : "code");
  return reader.blocks;
}

/** Blocks of plain text: paragraphs between empty lines. */
export function textBlocks(text: string): Block[] {
  const reader = new BlockReader();
  text.split(/\r?\n/).forEach((line, n) => {
    if (line.trim() === "") reader.end("paragraph");
    else reader.add(line, n);
  });
  reader.end("paragraph");
  return reader.blocks;
}

function readProse(reader: BlockReader, line: string, n: number): void {
  const title = heading.exec(line);
  if (title !== null) {
    reader.end("paragraph");
    reader.enter((title[1] ?? "#").length, (title[2] ?? "").trim());
  } else if (line.trim() === "") reader.end("paragraph");
  else reader.add(line, n);
}

/** Number of lines of a YAML front matter, which is about the document and no part of it. */
function frontMatterEnd(lines: readonly string[]): number {
  if (lines[0]?.trim() !== "---") return 0;
  const end = lines.findIndex((line, n) => n > 0 && /^(---|\.\.\.)\s*$/.test(line));
  return end === -1 ? 0 : end + 1;
}

class BlockReader {
  readonly blocks: Block[] = [];
  #headings: { level: number; title: string }[] = [];
  #lines: string[] = [];
  #from = 0;

  add(line: string, n: number): void {
    if (this.#lines.length === 0) this.#from = n + 1;
    this.#lines.push(line);
  }

  end(kind: Block["kind"]): void {
    const text = this.#lines.join("\n").trimEnd();
    this.#lines = [];
    if (text.trim() === "") return;
    this.blocks.push({ line: this.#from, text, kind, headings: this.#headings.map(({ title }) => title) });
  }

  enter(level: number, title: string): void {
    this.#headings = this.#headings.filter((outer) => outer.level < level);
    if (title !== "") this.#headings.push({ level, title });
  }
}
