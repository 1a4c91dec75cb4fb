import { describe, expect, it } from "vitest";
import { indexMigrate, type MigrateResult } from "../../cli/src/app/index-migrate.js";
import { indexMigrateText } from "../../cli/src/app/render/index-migrate-text.js";

const verify = { queries: 100, k: 10, recall: 0.998, sourceRecall: 0.91, msAQuery: { source: 0.2, index: 1.4 } };
const text = (result: Omit<MigrateResult, "backupDir">): string => indexMigrateText({ backupDir: "/b", ...result }, false);

describe("what a migration says", () => {
  it("puts its recall beside the source's", () => {
    expect(text({ verify })).toBe(
      "recall   0.998 of the true 10 neighbours over 100 queries (the source: 0.910)\n" +
        "         1.40 ms a query over HTTP, one at a time (the source in memory: 0.20 ms)",
    );
  });

  it("says after --re-embed how many texts find their own item", () => {
    const found = { ...verify, recall: 1, sourceRecall: null, msAQuery: { source: null, index: 1.4 } };
    expect(text({ verify: found })).toMatch(/^recall {3}1\.000 of 100 texts find their own item among the first 10\n/);
  });

  it("says how to go back, also to a namespace that was empty", () => {
    const switched = { namespace: "default", kept: null, itemsBefore: 0 };
    expect(text({ switch: switched })).toContain("to go back: the same command with --undo");
  });

  it("says after an undo what serves and what is kept", () => {
    const undo = { namespace: "default", kept: "default~undone", items: 1200, itemsKept: 31 };
    expect(text({ undo })).toBe(
      "default serves again the 1,200 items of before; the 31 items it served until now are kept in default~undone.",
    );
    expect(text({ undo: { ...undo, items: 0 } })).toMatch(/^default is empty again; the 31 items/);
  });

  it.each([Number.NaN, -0.1, 1.1])("refuses %d as a share of recall before anything runs", async (recallLoss) => {
    const tools = {} as Parameters<typeof indexMigrate>[0];
    const request = { recallLoss } as Parameters<typeof indexMigrate>[1];
    await expect(indexMigrate(tools, request)).rejects.toThrow("--recall-loss is not a share between 0 and 1");
  });
});
