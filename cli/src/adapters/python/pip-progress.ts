import type { Progress } from "../../ports.js";

const label = "Python packages";

/** Counts the packages that pip works through: its own progress bar is for terminals only. */
export class PackageCount {
  readonly #total: number;
  readonly #progress: Progress;
  #done = 0;

  constructor(lock: string, progress: Progress) {
    this.#total = lock.match(/^[A-Za-z0-9_.[\]-]+==/gm)?.length ?? 0;
    this.#progress = progress;
  }

  line(line: string): void {
    if (!/^(Collecting|Ignoring|Requirement already satisfied) ?/.test(line)) return;
    this.#done = Math.min(this.#done + 1, this.#total);
    // The last one counts when everything is installed.
    const done = Math.min(this.#done, Math.max(0, this.#total - 1));
    this.#progress.emit({ kind: "amount", label, done, total: this.#total, unit: "packages" });
  }

  end(): void {
    this.#progress.emit({ kind: "amount", label, done: this.#total, total: this.#total, unit: "packages" });
  }
}
