import { appendFileSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FileAuditLog } from "../../../cli/src/adapters/audit/file-audit-log.js";
import { SteppingClock } from "../../fakes/stepping-clock.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();
const newLog = (state: string): FileAuditLog => new FileAuditLog(state, "ada@lab", new SteppingClock());

describe("the audit", () => {
  it("is empty before anything happened", async () => {
    expect(await newLog(temporary()).read(50)).toEqual([]);
  });

  it("remembers who did what, newest last, and gives the last few", async () => {
    const log = newLog(temporary());
    for (const action of ["deploy", "good", "rollback"])
      await log.append({ action, release: "r1-00000001", detail: `line\nof ${action}` });
    expect((await log.read(2)).map((entry) => entry.action)).toEqual(["good", "rollback"]);
    expect((await log.read(1))[0]).toMatchObject({
      author: "ada@lab",
      release: "r1-00000001",
      detail: "line\nof rollback",
      at: expect.stringMatching(/Z$/) as unknown,
    });
    expect(await log.read(0)).toEqual([]);
  });

  it("loses nothing when many write at once, and is private", async () => {
    const state = temporary();
    await Promise.all(
      Array.from({ length: 40 }, (_, i) => newLog(state).append({ action: `a${i.toString()}`, release: null, detail: "" })),
    );
    expect(new Set((await newLog(state).read(100)).map((entry) => entry.action)).size).toBe(40);
    expect(statSync(join(state, "audit.jsonl")).mode & 0o777).toBe(0o600);
  });

  it("does not let a line that was cut off swallow the next one", async () => {
    const state = temporary();
    const log = newLog(state);
    await log.append({ action: "one", release: null, detail: "" });
    appendFileSync(join(state, "audit.jsonl"), '{"at":"2026-');
    await log.append({ action: "two", release: null, detail: "" });
    appendFileSync(join(state, "audit.jsonl"), "null\n[1]\n{}\n");
    expect((await log.read(10)).map((entry) => entry.action)).toEqual(["one", "two"]);
    expect(readFileSync(join(state, "audit.jsonl"), "utf8").split("\n")).toHaveLength(7);
  });
});
