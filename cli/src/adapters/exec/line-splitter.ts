import { StringDecoder } from "node:string_decoder";

/** A line that has not ended after so many characters is handed out in pieces when nothing is kept. */
const longestLine = 1024 * 1024;

/** Collects a stream's text and hands out complete lines; a character cut in two by the pipe stays whole. */
export class LineSplitter {
  readonly #decoder = new StringDecoder("utf8");
  readonly #onLine: (line: string) => void;
  readonly #keep: boolean;
  readonly #parts: string[] = [];
  /** Pieces of the line that has not ended; joined once, as joining at every chunk would cost the square of its length. */
  #rest: string[] = [];
  #restLength = 0;

  /** @param keep  whether `end` gives the whole text; without it memory is bounded, however much arrives */
  constructor(onLine: (line: string) => void, keep = true) {
    this.#onLine = onLine;
    this.#keep = keep;
  }

  push(chunk: Buffer): void {
    this.#take(this.#decoder.write(chunk));
  }

  /** Hands out a last line without newline and returns the whole text. */
  end(): string {
    this.#take(this.#decoder.end());
    if (this.#restLength > 0) this.#onLine(this.#takeRest());
    return this.#parts.join("");
  }

  #take(text: string): void {
    if (text === "") return;
    if (this.#keep) this.#parts.push(text);
    const end = text.lastIndexOf("\n") + 1;
    if (end > 0) {
      const lines = (this.#takeRest() + text.slice(0, end)).split(/\r?\n/);
      for (const line of lines.slice(0, -1)) this.#onLine(line);
    }
    this.#hold(text.slice(end));
  }

  #hold(text: string): void {
    if (text === "") return;
    this.#rest.push(text);
    this.#restLength += text.length;
    if (!this.#keep && this.#restLength > longestLine) this.#onLine(this.#takeRest());
  }

  #takeRest(): string {
    const rest = this.#rest.join("");
    this.#rest = [];
    this.#restLength = 0;
    return rest;
  }
}
