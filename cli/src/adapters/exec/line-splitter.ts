import { StringDecoder } from "node:string_decoder";

/** Collects a stream's text and hands out complete lines; a character cut in two by the pipe stays whole. */
export class LineSplitter {
  readonly #decoder = new StringDecoder("utf8");
  readonly #onLine: (line: string) => void;
  readonly #parts: string[] = [];
  #rest = "";

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(chunk: Buffer): void {
    this.#take(this.#decoder.write(chunk));
  }

  /** Hands out a last line without newline and returns the whole text. */
  end(): string {
    this.#take(this.#decoder.end());
    if (this.#rest !== "") this.#onLine(this.#rest);
    this.#rest = "";
    return this.#parts.join("");
  }

  #take(text: string): void {
    if (text === "") return;
    this.#parts.push(text);
    const lines = (this.#rest + text).split(/\r?\n/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#onLine(line);
  }
}
