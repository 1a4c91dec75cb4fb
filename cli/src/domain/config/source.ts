/** Where a value stands in a configuration value: keys and array positions from the root. */
export type Path = readonly (string | number)[];

/** A half-open range of UTF-16 offsets into the text of a file. */
export interface Span {
  start: number;
  end: number;
}

/** Something wrong with a configuration file. `fatal` ones make it unusable. */
export interface Problem {
  severity: "error" | "warning";
  /** Short and stable, for scripts: `unknown-key`, `port-twice`. */
  code: string;
  message: string;
  /** Where, or null when the whole file is meant. */
  span: Span | null;
  /** Dotted path of the value, when there is one. */
  path: string | null;
  /** What to write instead. */
  hint: string | null;
  /** The name that was probably meant, when the problem is a mistyped one. */
  guess: string | null;
}

/** A parsed configuration file that can still say where everything stood. */
export interface SourceDocument {
  /** As it is shown to people. */
  file: string;
  text: string;
  /** Plain data (maps, lists, strings, numbers, booleans, null); `undefined` when the syntax is too broken to have any. */
  value: unknown;
  /** Syntax errors and warnings. */
  problems: readonly Problem[];
  /** Where a value (or its key) stands; the nearest enclosing value that exists when it does not. */
  locate(path: Path, part: "key" | "value"): Span | null;
}

/** `services.embedder.options`; keys with dots or spaces are quoted. */
export function dotted(path: Path): string {
  return path
    .map((part) => (typeof part === "number" ? `[${part}]` : /^[A-Za-z0-9_/-]+$/.test(part) ? part : JSON.stringify(part)))
    .join(".")
    .replaceAll(".[", "[");
}

export interface Place {
  line: number;
  column: number;
}

/** Line and column, both from 1, of offsets into a text. Columns count UTF-16 units, as editors do. Lines end with LF or CR LF. */
export function placesIn(text: string): (offset: number) => Place {
  const starts = [0];
  for (let end = text.indexOf("\n"); end !== -1; end = text.indexOf("\n", end + 1)) starts.push(end + 1);
  return (offset) => {
    const bounded = Math.max(0, Math.min(offset, text.length));
    let [low, high] = [0, starts.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((starts[middle] ?? 0) <= bounded) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: bounded - (starts[low] ?? 0) + 1 };
  };
}

/** Line and column of one offset. */
export const lineAndColumn = (text: string, offset: number): Place => placesIn(text)(offset);
