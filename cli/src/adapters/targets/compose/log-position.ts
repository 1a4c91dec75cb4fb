/** `docker logs --timestamps` puts this before each line: nanoseconds, in UTC. */
const stamped = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.?(\d*)Z ?(.*)$/s;
/** Docker stamps the two streams of a container apart from each other: lines may be this much out of order, and more on a busy host. */
const overlapMs = 5000;

interface Seen {
  at: number;
  line: string;
}

/**
 * How far the log of one container was read. Reading on begins a little before that, and what was read already is left out, each
 * line as often as it was there.
 */
export class LogPosition {
  #latest = 0;
  #recent: Seen[] = [];
  /** Lines that reading on will give again. */
  #again = new Map<string, number>();

  /** Where to read on from, as `--since` takes it; null before the first line. To be asked for at each beginning. */
  begin(): string | null {
    if (this.#latest === 0) return null;
    this.#forgetOld();
    this.#again = new Map();
    for (const { line } of this.#recent) this.#again.set(line, (this.#again.get(line) ?? 0) + 1);
    return new Date(this.#latest - overlapMs).toISOString();
  }

  /** The text of a line that was not read before, else null. */
  accept(line: string): string | null {
    const [, second = "", fraction = "", text = ""] = stamped.exec(line) ?? [];
    if (second === "") return line;
    const times = this.#again.get(line) ?? 0;
    if (times > 0) {
      this.#again.set(line, times - 1);
      return null;
    }
    const at = Date.parse(`${second}Z`) + Number(`0.${fraction || "0"}`) * 1000;
    this.#latest = Math.max(this.#latest, Math.floor(at));
    this.#recent.push({ at, line });
    if (this.#recent.length > 1000 && (this.#recent[0]?.at ?? 0) < this.#latest - 2 * overlapMs) this.#forgetOld();
    return text;
  }

  #forgetOld(): void {
    this.#recent = this.#recent.filter(({ at }) => at >= this.#latest - overlapMs);
  }
}
