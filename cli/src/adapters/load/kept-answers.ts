import { type SeededRandom, seededRandom } from "../../domain/seeded-random.js";

const stream = 21;

/** A seeded reservoir: after any number of requests each had the same chance to be among the kept. */
export class KeptAnswers {
  readonly #size: number;
  readonly #random: SeededRandom;
  readonly #slots: { ordinal: number; body: string | null }[] = [];
  readonly #slotOf = new Map<number, number>();
  #seen = 0;

  constructor(size: number, seed: number) {
    this.#size = size;
    this.#random = seededRandom(seed, stream);
  }

  /** Decides, before a request is sent, whether its answer will be kept. */
  choose(ordinal: number): boolean {
    this.#seen += 1;
    const slot = this.#slots.length < this.#size ? this.#slots.length : this.#random.below(this.#seen);
    if (slot >= this.#size) return false;
    const before = this.#slots[slot];
    if (before !== undefined) this.#slotOf.delete(before.ordinal);
    this.#slots[slot] = { ordinal, body: null };
    this.#slotOf.set(ordinal, slot);
    return true;
  }

  put(ordinal: number, body: string): void {
    const slot = this.#slotOf.get(ordinal);
    if (slot !== undefined) this.#slots[slot] = { ordinal, body };
  }

  /** By ordinal; those that were never answered are left out. */
  all(): { ordinal: number; body: string }[] {
    const answered = this.#slots.flatMap(({ ordinal, body }) => (body === null ? [] : [{ ordinal, body }]));
    return answered.sort((a, b) => a.ordinal - b.ordinal);
  }
}
