import { arrivals, type LoadMode } from "../../domain/schedule.js";
import type { LoadRun } from "./load-run.js";

/** Requests sent in one go before answers get a chance to be stamped. */
const burst = 64;
/** A slot whose request failed waits this long: a server that refuses at once must not be hammered. */
const pauseAfterFailureMs = 50;

/**
 * Open loop: every request that is due is sent, at its own absolute time. Resolves when the last was sent.
 * setTimeout is exact to about a millisecond; spinning would cost the core that the service may need.
 */
export function paceOpenLoop(run: LoadRun, mode: LoadMode & { kind: "open" }, seed: number): Promise<void> {
  const times = arrivals(mode, seed);
  let due = times.next().value;
  return new Promise((resolve) => {
    const pump = (): void => {
      for (let sent = 0; due <= run.now() && due < run.to; sent += 1) {
        if (sent === burst) {
          setImmediate(pump);
          return;
        }
        run.send(due);
        due = times.next().value;
      }
      if (due >= run.to) resolve();
      else setTimeout(pump, Math.max(0, due - run.now()));
    };
    pump();
  });
}

/** Closed loop: a slot's next request is due the moment its last one ended. Resolves when the window is over. */
export function paceClosedLoop(run: LoadRun, mode: LoadMode & { kind: "closed" }): Promise<void> {
  return new Promise((resolve) => {
    const next = (): void => {
      const now = run.now();
      if (now >= run.to) resolve();
      else run.send(now);
    };
    run.onEnd = (_exchange, ok) => {
      if (ok) next();
      else setTimeout(next, pauseAfterFailureMs);
    };
    for (let slot = 0; slot < mode.concurrency; slot += 1) next();
  });
}
