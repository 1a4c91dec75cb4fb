import type { ProcessTable } from "../../cli/src/adapters/state/process-identity.js";

/** Processes that exist because a test says so. */
export class FakeProcessTable implements ProcessTable {
  bootId = "boot-1";
  uptimeMs = 1_000_000;
  readonly #started = new Map<number, number>();

  start(pid: number, startTime: number): void {
    this.#started.set(pid, startTime);
  }

  end(pid: number): void {
    this.#started.delete(pid);
  }

  startTime(pid: number): number | null {
    return this.#started.get(pid) ?? null;
  }

  bootMs(): number {
    return this.uptimeMs;
  }
}
