import fc from "fast-check";
import { expect, test } from "vitest";
import { expectedPeak, ledgerOf, peakKey, type PeakKey } from "../../cli/src/domain/ledger.js";
import { mib } from "../../cli/src/domain/units.js";
import { recordOf, specFor } from "../support/records.js";
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

test("what is planned with is never below what any of the last releases needed, and never above all that was seen", () => {
  fc.assert(
    fc.property(entries, entry, fc.integer({ min: 1, max: 12 }), (measured, asked, last) => {
      const ledger = [...measured, asked];
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
      expect(expectedPeak([first, later], first.key)?.peak).toBe(first.peak);
      expect(expectedPeak([first, later], first.key, 1)?.peak).toBe(later.peak);
    }),
  );
});

test("another batch size is a similar case, another card or precision is none", () => {
  const base = specFor({ model: bgeM3, env: { GPUCTL_MAX_BATCH_TOKENS: "8192", GPUCTL_LOG_LEVEL: "info" } });
  const ledger = [{ key: peakKey(base, "cuda Tesla T4"), release: 3, peak: mib(3100) }];
  const asked = (env: Record<string, string>, card = "cuda Tesla T4") => expectedPeak(ledger, peakKey({ ...base, env }, card));
  expect(asked({ GPUCTL_MAX_BATCH_TOKENS: "8192", GPUCTL_LOG_LEVEL: "debug" })).toEqual({ peak: 3100, from: "measured" });
  expect(asked({ GPUCTL_MAX_BATCH_TOKENS: "16384" })).toEqual({ peak: 3100, from: "similar" });
  expect(asked({ GPUCTL_MAX_BATCH_TOKENS: "8192" }, "cuda H200")).toBeNull();
  expect(asked({ GPUCTL_MAX_BATCH_TOKENS: "8192", GPUCTL_DTYPE: "float16" })).toBeNull();
});

test("the kept releases are the ledger: what was measured on a device that was proven", () => {
  const { embedder } = recordOf(3).services;
  const measured = { ...embedder!, peakMiB: 3100, proof: { device: "cuda", level: "process" } as const };
  const records = [recordOf(3, { services: { embedder: measured } }), recordOf(4)];
  expect(ledgerOf(records)).toEqual([{ key: peakKey(measured.spec, "cuda"), release: 3, peak: 3100 }]);
});
