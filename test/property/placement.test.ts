import fc from "fast-check";
import { expect, test } from "vitest";
import { chooseStrategy, freeSlot, memoryMargin } from "../../cli/src/domain/placement.js";
import { mib, ms } from "../../cli/src/domain/units.js";

const amount = fc.integer({ min: 0, max: 100_000 }).map(mib);
const question = fc.record({ free: amount, peak: amount, held: amount, margin: amount, gap: fc.constant(ms(8000)) });

test("overlap never eats into the margin, stop-first never needs more than stopping gives back", () => {
  fc.assert(
    fc.property(question, (asked) => {
      const strategy = chooseStrategy(asked);
      if (strategy.kind === "overlap") expect(asked.free - asked.peak).toBeGreaterThan(asked.margin);
      if (strategy.kind === "stop-first") expect(asked.free + asked.held - asked.peak).toBeGreaterThan(asked.margin);
      if (strategy.kind === "refuse") expect(asked.free + asked.held - asked.peak).toBeLessThanOrEqual(asked.margin);
    }),
  );
});

test("the old one is stopped first only when both do not fit", () => {
  fc.assert(
    fc.property(question, (asked) => {
      if (chooseStrategy(asked).kind === "stop-first") expect(asked.free - asked.peak).toBeLessThanOrEqual(asked.margin);
    }),
  );
});

test("more free memory never makes the strategy worse", () => {
  const rank = { overlap: 0, "stop-first": 1, refuse: 2 };
  fc.assert(
    fc.property(question, amount, (asked, more) => {
      const richer = { ...asked, free: mib(asked.free + more) };
      expect(rank[chooseStrategy(richer).kind]).toBeLessThanOrEqual(rank[chooseStrategy(asked).kind]);
    }),
  );
});

test("a need for RAM that nobody has measured is no reason to stop what serves", () => {
  fc.assert(fc.property(question, (asked) => chooseStrategy({ ...asked, peak: null }).kind === "overlap"));
});

test("the margin is 5 % and never below 256 MiB; the free slot is the other one", () => {
  expect([memoryMargin(mib(1000)), memoryMargin(mib(16_000))]).toEqual([256, 800]);
  expect([freeSlot(null), freeSlot("a"), freeSlot("b")]).toEqual(["a", "b", "a"]);
});
