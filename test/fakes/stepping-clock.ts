import { ms, type Milliseconds } from "../../cli/src/domain/units.js";
import type { Clock } from "../../cli/src/ports.js";

interface Timer {
  at: number;
  wake: () => void;
}

/** Time that passes only while everybody waits: when nothing else can run, it jumps to the next timer. */
export class SteppingClock implements Clock {
  #elapsed = 0;
  #wall = Date.UTC(2026, 0, 5, 9, 0, 0);
  #timers: Timer[] = [];
  #pumping = false;

  now(): Date {
    return new Date(this.#wall + this.#elapsed);
  }

  monotonic(): Milliseconds {
    return ms(this.#elapsed);
  }

  /** Moves the date, as a person or a time server would. Elapsed time does not notice. */
  setBack(by: number): void {
    this.#wall -= by;
  }

  /** Work that takes time without waiting for a timer. */
  pass(duration: number): void {
    this.#elapsed += duration;
  }

  sleep(duration: Milliseconds, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(abortError());
        return;
      }
      const timer: Timer = { at: this.#elapsed + duration, wake: resolve };
      this.#timers.push(timer);
      signal?.addEventListener("abort", () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
        reject(abortError());
      });
      this.#pump();
    });
  }

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      const next = this.#timers.reduce<Timer | null>(
        (first, timer) => (first === null || timer.at < first.at ? timer : first),
        null,
      );
      if (next === null) return;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#elapsed = Math.max(this.#elapsed, next.at);
      next.wake();
      this.#pump();
    });
  }
}

const abortError = (): Error => Object.assign(new Error("aborted"), { name: "AbortError" });
