import type { Milliseconds } from "../../domain/units.js";

/** The end that is set to some work: the caller's, a deadline's, or one that the work finds itself. */
export interface Limit {
  readonly signal: AbortSignal;
  /** Ends the work for a reason of its own. */
  stop(reason: Error): void;
}

/**
 * Does work under a signal that fires with the caller's, or past the deadline with an error that says so.
 * @param tooLate  makes the error of the deadline
 */
export async function withLimit<Value>(
  options: { deadline: Milliseconds; signal?: AbortSignal },
  tooLate: () => Error,
  work: (limit: Limit) => Promise<Value>,
): Promise<Value> {
  const { deadline, signal: outer } = options;
  outer?.throwIfAborted();
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(outer?.reason);
  const timer = setTimeout(() => controller.abort(tooLate()), deadline);
  outer?.addEventListener("abort", onAbort, { once: true });
  try {
    return await work({ signal: controller.signal, stop: (reason) => controller.abort(reason) });
  } finally {
    clearTimeout(timer);
    outer?.removeEventListener("abort", onAbort);
  }
}

/** A promise, or the signal's reason when that comes first; the promise's own failure is then nobody's. */
export function unlessAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      reject(signal.reason as Error);
    };
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => {
      signal.removeEventListener("abort", onAbort);
    });
  });
}

/** A signal that fires some time after another, for what is better brought to its end. Dispose it when that has come. */
export function delayed(signal: AbortSignal, delay: Milliseconds): { signal: AbortSignal; dispose(): void } {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    timer = setTimeout(() => controller.abort(signal.reason), delay);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  return {
    signal: controller.signal,
    dispose() {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    },
  };
}
