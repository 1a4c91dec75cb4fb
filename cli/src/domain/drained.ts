import type { InstanceId } from "./names.js";
import type { Milliseconds } from "./units.js";

/** How the wait for an instance's last requests ended. */
export interface Drained {
  /** Whether none was left; null when nobody could be asked to the end of the time for it. */
  drained: boolean | null;
  waitedMs: number;
}

/** Several places' outcome as one: the worst that is known of any of them. */
export function drainedTogether(places: readonly Drained[]): Drained {
  const outcomes = places.map(({ drained }) => drained);
  const drained = outcomes.includes(false) ? false : outcomes.includes(null) ? null : true;
  return { drained, waitedMs: Math.max(0, ...places.map(({ waitedMs }) => waitedMs)) };
}

/** What a person is told about a drain that did not end well; null for one that did. */
export function undrained(id: InstanceId, { drained }: Pick<Drained, "drained">, limit: Milliseconds): string | null {
  const time = `${limit < 1000 ? `${limit} ms` : `${limit / 1000} s`} of draining`;
  switch (drained) {
    case true:
      return null;
    case false:
      return `${id} still had requests after ${time}`;
    case null:
      return `it is not known whether ${id} still had requests after ${time}: the proxy, which counts them, could not be asked`;
  }
}
