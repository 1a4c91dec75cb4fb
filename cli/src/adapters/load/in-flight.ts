/** Counts unanswered requests and integrates their number over a window while they come and go. */
export class InFlight {
  readonly #from: number;
  #to: number;
  #count = 0;
  #last = 0;
  #area = 0;
  atStart = 0;
  atEnd = 0;

  constructor(from: number, to: number) {
    this.#from = from;
    this.#to = to;
  }

  get count(): number {
    return this.#count;
  }

  /** Lengthens the window; must be called before time passes its old end. */
  extend(to: number): void {
    this.#to = to;
  }

  change(by: 1 | -1, now: number): void {
    this.#advance(now);
    this.#count += by;
  }

  /** The average over the window; call it once the window has passed. */
  mean(now: number): number {
    this.#advance(now);
    return this.#area / (this.#to - this.#from);
  }

  #advance(now: number): void {
    const from = Math.max(this.#last, this.#from);
    const to = Math.min(now, this.#to);
    if (to > from) this.#area += this.#count * (to - from);
    if (this.#last < this.#from && now >= this.#from) this.atStart = this.#count;
    if (this.#last < this.#to && now >= this.#to) this.atEnd = this.#count;
    this.#last = now;
  }
}
