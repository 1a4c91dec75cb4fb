/** Measures how late this process's own timers fire: pauses of the generator that no request happens to fall into. */
export class HiccupMeter {
  static readonly intervalMs = 5;
  readonly #now: () => number;
  readonly #late: { at: number; by: number }[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(now: () => number) {
    this.#now = now;
  }

  start(): void {
    const expected = this.#now() + HiccupMeter.intervalMs;
    this.#timer = setTimeout(() => {
      const at = this.#now();
      this.#late.push({ at, by: Math.max(0, at - expected) });
      this.start();
    }, HiccupMeter.intervalMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /** How late the timers of a window fired, milliseconds. */
  between(from: number, to: number): Float64Array {
    return Float64Array.from(this.#late.filter((hiccup) => hiccup.at >= from && hiccup.at < to).map((hiccup) => hiccup.by));
  }
}
