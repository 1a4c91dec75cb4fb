import fc from "fast-check";
import { expect, test } from "vitest";
import {
  emptyLedger,
  expectedPeak,
  mergeLedgers,
  peakKey,
  readLedger,
  recordPeak,
  trimLedger,
  type Ledger,
  type PeakKey,
} from "../../cli/src/domain/compose/ledger.js";
import { mib } from "../../cli/src/domain/units.js";
import { specFor } from "../support/records.js";
import { bgeM3 } from "../unit/compose/nodes.js";

const key: fc.Arbitrary<PeakKey> = fc
  .record({
    batch: fc.constantFrom("", "8192", "16384"),
    dtype: fc.constantFrom("auto", "float16"),
    card: fc.constantFrom("Tesla T4", "H200"),
  })
  .map(({ batch, dtype, card }) =>
    peakKey(specFor({ model: bgeM3, env: { GPUCTL_MAX_BATCH_TOKENS: batch, GPUCTL_DTYPE: dtype } }), `cuda ${card}`),
  );
const entry = fc.record({ key, release: fc.integer({ min: 1, max: 40 }), peak: fc.integer({ min: 0, max: 20_000 }).map(mib) });
const entries = fc.array(entry, { maxLength: 12 });

const ledgerOf = (measured: readonly { key: PeakKey; release: number; peak: ReturnType<typeof mib> }[]): Ledger =>
  measured.reduce<Ledger>((ledger, { key: of, release, peak }) => recordPeak(ledger, of, { release, peak }), emptyLedger);

test("in which order peaks are recorded and ledgers merged does not matter, nor how often", () => {
  fc.assert(
    fc.property(entries, entries, entries, (a, b, c) => {
      const [one, two, three] = [ledgerOf(a), ledgerOf(b), ledgerOf(c)];
      expect(mergeLedgers(one, two)).toEqual(mergeLedgers(two, one));
      expect(mergeLedgers(mergeLedgers(one, two), three)).toEqual(mergeLedgers(one, mergeLedgers(two, three)));
      expect(mergeLedgers(one, one)).toEqual(one);
      expect(ledgerOf([...a, ...b])).toEqual(mergeLedgers(two, one));
    }),
  );
});

test("what is planned with is never below what any of the last releases needed, and never above all that was seen", () => {
  fc.assert(
    fc.property(entries, entry, fc.integer({ min: 1, max: 12 }), (measured, asked, last) => {
      const ledger = ledgerOf([...measured, asked]);
      const same = [...measured, asked].filter((each) => JSON.stringify(each.key) === JSON.stringify(asked.key));
      const newest = [...new Set(same.map(({ release }) => release))].sort((a, b) => b - a).slice(0, last);
      const expected = Math.max(...same.filter(({ release }) => newest.includes(release)).map(({ peak }) => peak));
      expect(expectedPeak(ledger, asked.key, last)).toEqual({ peak: expected, from: "measured" });
    }),
  );
});

test("a lower measurement of a later release does not lower the plan while the higher one counts", () => {
  fc.assert(
    fc.property(entry, fc.nat(5000), (first, less) => {
      const later = { ...first, release: first.release + 1, peak: mib(Math.max(0, first.peak - less)) };
      expect(expectedPeak(ledgerOf([first, later]), first.key)?.peak).toBe(first.peak);
      expect(expectedPeak(ledgerOf([first, later]), first.key, 1)?.peak).toBe(later.peak);
    }),
  );
});

test("trimming forgets nothing that counts", () => {
  fc.assert(
    fc.property(entries, key, fc.integer({ min: 1, max: 12 }), (measured, asked, last) => {
      const ledger = ledgerOf(measured);
      const trimmed = trimLedger(ledger, last);
      const before = expectedPeak(ledger, asked, last);
      if (before?.from === "measured") expect(expectedPeak(trimmed, asked, last)).toEqual(before);
      expect(trimLedger(trimmed, last)).toEqual(trimmed);
    }),
  );
});

test("another batch size is a similar case, another card or precision is none", () => {
  const base = specFor({ model: bgeM3, env: { GPUCTL_MAX_BATCH_TOKENS: "8192", GPUCTL_LOG_LEVEL: "info" } });
  const ledger = recordPeak(emptyLedger, peakKey(base, "cuda Tesla T4"), { release: 3, peak: mib(3100) });
  const asked = (env: Record<string, string>, card = "cuda Tesla T4") => expectedPeak(ledger, peakKey({ ...base, env }, card));
  expect(asked({ GPUCTL_MAX_BATCH_TOKENS: "8192", GPUCTL_LOG_LEVEL: "debug" })).toEqual({ peak: 3100, from: "measured" });
  expect(asked({ GPUCTL_MAX_BATCH_TOKENS: "16384" })).toEqual({ peak: 3100, from: "similar" });
  expect(asked({ GPUCTL_MAX_BATCH_TOKENS: "8192" }, "cuda H200")).toBeNull();
  expect(asked({ GPUCTL_MAX_BATCH_TOKENS: "8192", GPUCTL_DTYPE: "float16" })).toBeNull();
});

test("a ledger comes back from its file as it was written; damage costs only what is damaged", () => {
  fc.assert(
    fc.property(entries, fc.anything(), (measured, damage) => {
      const ledger = ledgerOf(measured);
      expect(readLedger(JSON.parse(JSON.stringify(ledger)))).toEqual(ledger);
      expect(readLedger({ ...ledger, damaged: damage })).toMatchObject(ledger);
      readLedger(damage);
    }),
  );
});
