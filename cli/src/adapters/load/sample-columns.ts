/** One measured request; times in milliseconds since the load's start. */
export interface Sample {
  due: number;
  dispatched: number;
  sent: number;
  done: number;
  outcome: string;
  items: number;
  tokens: number;
  bytes: number;
}

const numeric = ["due", "dispatched", "sent", "done", "items", "tokens", "bytes"] as const;
type Numeric = (typeof numeric)[number];

/** Raw samples in growing typed columns: a million requests take 60 MB and never make the collector pause the load. */
export class SampleColumns {
  #columns: Record<Numeric, Float64Array> = columnsOf(4096);
  #outcome = new Uint16Array(4096);
  readonly #outcomes = ["ok"];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  add(sample: Sample): void {
    if (this.#length === this.#outcome.length) this.#grow();
    for (const name of numeric) this.#columns[name][this.#length] = sample[name];
    this.#outcome[this.#length] = this.#code(sample.outcome);
    this.#length += 1;
  }

  take(): Record<Numeric, Float64Array> & { outcome: Uint16Array; outcomes: readonly string[] } {
    const cut = Object.fromEntries(numeric.map((name) => [name, this.#columns[name].subarray(0, this.#length)]));
    return {
      ...(cut as Record<Numeric, Float64Array>),
      outcome: this.#outcome.subarray(0, this.#length),
      outcomes: this.#outcomes,
    };
  }

  #code(outcome: string): number {
    const known = this.#outcomes.indexOf(outcome);
    return known === -1 ? this.#outcomes.push(outcome) - 1 : known;
  }

  #grow(): void {
    const bigger = columnsOf(this.#length * 2);
    for (const name of numeric) bigger[name].set(this.#columns[name]);
    this.#columns = bigger;
    const outcome = new Uint16Array(this.#length * 2);
    outcome.set(this.#outcome);
    this.#outcome = outcome;
  }
}

function columnsOf(length: number): Record<Numeric, Float64Array> {
  return Object.fromEntries(numeric.map((name) => [name, new Float64Array(length)])) as Record<Numeric, Float64Array>;
}
