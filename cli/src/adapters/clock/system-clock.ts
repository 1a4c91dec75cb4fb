import { setTimeout as wait } from "node:timers/promises";
import { type Milliseconds, ms } from "../../domain/units.js";
import type { Clock } from "../../ports.js";

/** Node's hrtime is CLOCK_MONOTONIC: one zero for every process of this boot, and Python's `time.monotonic()` reads the same clock. */
export class SystemClock implements Clock {
  now(): Date {
    return new Date();
  }

  monotonic(): Milliseconds {
    return ms(Number(process.hrtime.bigint() / 1000n) / 1000);
  }

  async sleep(duration: Milliseconds, signal?: AbortSignal): Promise<void> {
    try {
      await wait(duration, undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      // The reason says which signal it was; Node's AbortError only says that there was one.
      throw signal?.aborted === true ? signal.reason : error;
    }
  }
}
