/** In place of a secret's value. */
const mark = "[secret]";

/** Shorter values are words of their own too often: taking them out would make other text unreadable. */
const least = 6;

/**
 * The secret values that a command has read. What others print (a service's last words, an engine's error) may repeat them, so what
 * they said goes through `of` before it is told or written down. Never data that something is made of again.
 */
export class Redaction {
  readonly #values = new Set<string>();

  /** Notes a value, each line of it, and how JSON writes it. */
  note(value: string): void {
    for (const part of [value, ...value.split(/\r?\n/)])
      for (const form of [part.trim(), JSON.stringify(part.trim()).slice(1, -1)])
        if (form.length >= least) this.#values.add(form);
  }

  /** The same without any of them: a text, or data with texts in it. */
  of<T>(told: T): T {
    if (this.#values.size === 0) return told;
    // The longest first: one value may be the beginning of another.
    const values = [...this.#values].sort((left, right) => right.length - left.length);
    return without(told, values) as T;
  }
}

function without(told: unknown, values: readonly string[]): unknown {
  if (typeof told === "string") return values.reduce((text, value) => text.replaceAll(value, mark), told);
  if (Array.isArray(told)) return told.map((each) => without(each, values));
  if (typeof told !== "object" || told === null || Object.getPrototypeOf(told) !== Object.prototype) return told;
  return Object.fromEntries(Object.entries(told).map(([name, value]) => [name, without(value, values)]));
}
