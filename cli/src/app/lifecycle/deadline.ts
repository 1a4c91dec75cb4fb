import { Failed, Interrupted } from "../../domain/errors.js";
import type { Milliseconds } from "../../domain/units.js";
import type { Clock } from "../../ports.js";

/**
 * Budgets of calls that have none in the project file. A call past its budget failed, whatever it may still do; so each is longer
 * than what a host may take for the commands in it.
 */
export const budgets = {
  preflight: 120_000,
  /** For each node: one may be the far end of a slow line. */
  stage: 1_800_000,
  ask: 10_000,
  /** The first look at a node takes many commands, on hosts that are busy with something else. */
  look: 45_000,
  start: 150_000,
  traffic: 15_000,
  /** A container gets 45 s and more to end by itself. */
  stop: 170_000,
  /** For each node: where listeners are made anew one node follows the other. */
  manager: 150_000,
  /** What was given up in the middle is ended on the target meanwhile. */
  abandon: 75_000,
  proof: 60_000,
  gates: 120_000,
  handOver: 5_000,
  /** Images of gigabytes are removed one after the other. */
  prune: 200_000,
  removeModels: 200_000,
} as const;

/** Ends with the work's outcome, or fails once the budget is used up. The work is told through its signal. */
export async function within<T>(
  clock: Clock,
  budget: Milliseconds,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
  nextSteps: readonly string[] = [],
): Promise<T> {
  const timer = new AbortController();
  const late = new AbortController();
  const expired = clock.sleep(budget, timer.signal).then(
    () => true,
    () => false,
  );
  const running = work(late.signal);
  // After the deadline nobody waits for it any more; its failure must not end the process.
  running.catch(() => undefined);
  try {
    const first = await Promise.race([
      running.then(() => "done" as const),
      expired.then((yes) => (yes ? ("late" as const) : ("done" as const))),
    ]);
    if (first === "done") return await running;
    const failure = new Failed(`${what} did not end within ${seconds(budget)}`, { nextSteps });
    late.abort(failure);
    throw failure;
  } finally {
    timer.abort();
  }
}

/** Throws the interruption once SIGINT or SIGTERM arrived. Called between steps, never inside one. */
export function stopIfAsked(signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw signal.reason instanceof Interrupted ? signal.reason : new Interrupted("stopped on request", { cause: signal.reason });
}

/** A pause between two looks; ends early, by throwing the interruption, on SIGINT and SIGTERM. */
export async function pause(clock: Clock, duration: Milliseconds, signal: AbortSignal): Promise<void> {
  stopIfAsked(signal);
  try {
    await clock.sleep(duration, signal);
  } catch (thrown) {
    stopIfAsked(signal);
    throw thrown;
  }
  stopIfAsked(signal);
}

/** `850 ms`, `12 s`, `2.5 s`: the shortest way to say a duration. */
export function seconds(duration: number): string {
  if (duration < 1000) return `${Math.round(duration)} ms`;
  return `${Number((duration / 1000).toFixed(1))} s`;
}
