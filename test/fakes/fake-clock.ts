import { type Milliseconds, ms } from "../../cli/src/domain/units.js";
import type { Clock } from "../../cli/src/ports.js";

/** A clock that only moves when a test or a sleep moves it. */
export class FakeClock implements Clock {
  wall = new Date("2026-03-01T12:00:00Z");
  elapsed = 1_000_000;

  now(): Date {
    return new Date(this.wall);
  }

  monotonic(): Milliseconds {
    return ms(this.elapsed);
  }

  sleep(duration: Milliseconds, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.advance(duration);
    return Promise.resolve();
  }

  advance(duration: number): void {
    this.elapsed += duration;
    this.wall = new Date(this.wall.getTime() + duration);
  }
}
