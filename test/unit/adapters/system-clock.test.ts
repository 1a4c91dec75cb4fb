import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { SystemClock } from "../../../cli/src/adapters/clock/system-clock.js";
import { Failed } from "../../../cli/src/domain/errors.js";
import { ms } from "../../../cli/src/domain/units.js";

const clock = new SystemClock();

describe("the clock that orders things", () => {
  it("reads the same in another process of this machine", () => {
    const before = clock.monotonic();
    const inside = Number(execFileSync(process.execPath, ["-p", "Number(process.hrtime.bigint()) / 1e6"], { encoding: "utf8" }));
    expect(inside).toBeGreaterThan(before);
    expect(inside).toBeLessThan(clock.monotonic());
  });

  it("never goes back", () => {
    const readings = Array.from({ length: 1000 }, () => clock.monotonic());
    expect(readings).toEqual(readings.toSorted((left, right) => left - right));
  });

  it("wakes a sleeper that is called, with the caller's reason", async () => {
    const abort = new AbortController();
    const sleeping = clock.sleep(ms(60_000), abort.signal);
    abort.abort(new Failed("enough"));
    await expect(sleeping).rejects.toThrow("enough");
  });
});
