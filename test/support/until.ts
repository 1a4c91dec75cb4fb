import { setTimeout as wait } from "node:timers/promises";

/** Polls a condition; tests wait for facts, never for time. */
export async function until(condition: () => boolean | Promise<boolean>, what: string, deadlineMs = 10_000): Promise<void> {
  const started = performance.now();
  while (!(await condition())) {
    if (performance.now() - started > deadlineMs) throw new Error(`did not happen within ${deadlineMs.toString()} ms: ${what}`);
    await wait(20);
  }
}
