import { GpuctlError, UsageError } from "../../domain/errors.js";
import type { Nodes } from "../../ports.js";

/** The nodes of an environment during one command. */
export class CommandNodes implements Nodes {
  readonly names: readonly string[];
  readonly chosen: readonly string[] | null;
  readonly parallel: number;
  readonly #lost = new Map<string, string>();
  readonly #blamed = new WeakMap<object, string>();

  /**
   * Throws UsageError for a node that the environment does not have.
   * @param choice  nodes that the command is limited to (all without it), and how many get their traffic moved at once (one)
   */
  constructor(names: readonly string[], choice: { hosts?: readonly string[]; parallel?: number } = {}) {
    const { hosts = names, parallel = 1 } = choice;
    const unknown = hosts.find((host) => !names.includes(host));
    if (unknown !== undefined)
      throw new UsageError(`there is no node ${unknown}`, { because: `the nodes are ${names.join(", ")}` });
    this.names = names;
    this.chosen = names.every((name) => hosts.includes(name)) ? null : names.filter((name) => hosts.includes(name));
    this.parallel = parallel;
  }

  get lost(): ReadonlyMap<string, string> {
    return this.#lost;
  }

  giveUp(node: string, because: string): void {
    if (!this.#lost.has(node)) this.#lost.set(node, because);
  }

  blame(thrown: unknown, node: string): void {
    if (typeof thrown === "object" && thrown !== null && !this.#blamed.has(thrown)) this.#blamed.set(thrown, node);
  }

  failedOn(thrown: unknown): string | null {
    let each = thrown;
    while (typeof each === "object" && each !== null) {
      const node = this.#named(each) ?? this.#blamed.get(each);
      if (node !== undefined) return node;
      each = (each as { cause?: unknown }).cause;
    }
    return null;
  }

  /** Our own errors often say where they come from. */
  #named(thrown: object): string | undefined {
    const node = thrown instanceof GpuctlError ? thrown.data?.["node"] : undefined;
    return this.names.find((name) => name === node);
  }

  /** Whether a node is looked at and changed. */
  readonly inUse = (node: string): boolean => !this.#lost.has(node) && (this.chosen?.includes(node) ?? true);

  /** Whether a node is asked for what it keeps for all: records, their key, the audit. */
  readonly isRead = (node: string): boolean => !this.#lost.has(node);
}
