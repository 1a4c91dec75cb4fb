import { expect, test } from "vitest";
import { drainedTogether } from "../../cli/src/domain/drained.js";

test("of several hosts the worst that is known counts: requests that were left, then that nobody knows", () => {
  const of = (...each: readonly (boolean | null)[]): boolean | null =>
    drainedTogether(each.map((drained) => ({ drained, waitedMs: 1 }))).drained;
  expect([of(true, true), of(true, null), of(null, false, true), of()]).toEqual([true, null, false, true]);
  expect(drainedTogether([5, 900, 7].map((waitedMs) => ({ drained: true, waitedMs }))).waitedMs).toBe(900);
});
