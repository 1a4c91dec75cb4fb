import { describe, expect, it } from "vitest";
import { checkSlo } from "../../../cli/src/domain/slo.js";
import { decide, type Evidence, sendLagLimit } from "../../../cli/src/domain/verdict.js";
import { ms } from "../../../cli/src/domain/units.js";

const good: Evidence = {
  mode: "open",
  quick: false,
  sharedHost: false,
  n: 1000,
  scheduled: 1000,
  ok: 1000,
  failed: {},
  timeouts: 0,
  dropped: 0,
  p50: 20,
  sendLagP99: 2,
  hiccupP90: 1,
  hiccupP99: 2,
  offeredPerSecond: 100,
  achievedPerSecond: 100,
  backlogGrowth: 0,
  meanInFlight: 2,
  littleError: 0.01,
  devices: { cuda: 1000 },
  deviceWished: "cuda",
  fromCache: 0,
  unranked: 0,
  checksFailed: [],
  checked: 200,
};

const reasons = (change: Partial<Evidence>): string => decide({ ...good, ...change }).reasons.join("\n");

describe("the verdict", () => {
  it("is VALID without a reason against it", () => {
    expect(decide(good)).toEqual({ verdict: "VALID", reasons: [], sendLagLimitMs: 3 });
  });

  it("names the shared host where client and service share cores, for closed loops and quick runs only", () => {
    const shared = { ...good, sharedHost: true };
    expect(decide({ ...shared, mode: "closed" }).verdict).toBe("VALID (shared host)");
    expect(decide({ ...shared, quick: true }).verdict).toBe("VALID (shared host)");
    expect(decide(shared).verdict).toBe("VALID");
  });

  it("limits the send lag to 3 ms or 5 % of p50, on a shared host to 10 ms or 10 %", () => {
    expect([sendLagLimit(10, false), sendLagLimit(200, false), sendLagLimit(10, true), sendLagLimit(200, true)]).toEqual([
      3, 10, 10, 20,
    ]);
    expect(reasons({ sendLagP99: 3.1 })).toBe("the load generator was late: send lag p99 3.1 ms is above 3.0 ms");
    expect(reasons({ sendLagP99: 9, sharedHost: true, quick: true })).toBe("");
    expect(reasons({ sendLagP99: 10.5, sharedHost: true, quick: true })).toContain("send lag p99 10.5 ms is above 10.0 ms");
  });

  it("sees a starved generator by its own timers, which a closed loop's send lag cannot show", () => {
    expect(reasons({ mode: "closed", sendLagP99: 0, hiccupP99: 40 })).toContain("timer hiccup p99 40.0 ms");
    expect(reasons({ mode: "closed", sharedHost: true, hiccupP90: 4, hiccupP99: 40 })).toBe("");
    expect(reasons({ mode: "closed", sharedHost: true, hiccupP90: 11 })).toContain("timer hiccup p90 11.0 ms");
  });

  it("finds requests that piled up, and takes a few in flight at the edges for chance", () => {
    expect(reasons({ backlogGrowth: 5 })).toBe("");
    expect(reasons({ backlogGrowth: 200, achievedPerSecond: 80, meanInFlight: 100 })).toContain(
      "achieved 80.0 of 100.0 requests/s offered",
    );
    expect(reasons({ offeredPerSecond: null, backlogGrowth: 200 })).toBe("");
  });

  it("names every outcome that was not an answer, and every request that has none", () => {
    const text = reasons({ ok: 900, failed: { "http 503": 40, "connection reset": 2 }, timeouts: 30, dropped: 20 });
    expect(text).toContain("42 of 1000 requests failed: connection reset x2, http 503 x40");
    expect(text).toContain("30 of 1000 requests timed out");
    expect(text).toContain("20 of 1000 requests were dropped by the generator");
    expect(text).toContain("8 requests are unaccounted for");
  });

  it("needs enough requests for a p95, a Little's law that holds, and answers that were checked", () => {
    expect(reasons({ n: 89 })).toContain("89 requests were measured, p95 needs 90");
    expect(reasons({ littleError: 0.051 })).toContain("Little's law is off by 5.1 %");
    expect(reasons({ checked: 0 })).toContain("no answer was checked");
    expect(reasons({ checksFailed: ["1 of 200 answers checked: a vector is all zeros"] })).toContain("all zeros");
  });

  it("never lets cpu pass for the device that was wished, nor silence for a proof", () => {
    expect(reasons({ devices: { cpu: 1000 } })).toBe("answers came from cpu, and cuda was wished");
    expect(reasons({ devices: { cuda: 900, cpu: 100 } })).toBe("the device changed during the measurement: cpu, cuda");
    expect(reasons({ devices: { unstated: 1000 } })).toBe("no answer said on which device it was computed, and cuda was wished");
    expect(reasons({ devices: { unstated: 1000 }, deviceWished: "auto" })).toBe("");
  });

  it("does not take what a cache remembers for the speed of a model", () => {
    expect(reasons({ fromCache: 12 })).toBe("12 answers came out of the service's cache: the figures say nothing of the model");
  });

  it("says what a substitute left out, and what to do about it", () => {
    expect(reasons({ unranked: 945 })).toMatch(/^945 documents were not ranked, .*substitute.*gpuctl health.*--batch/);
  });

  it("says what to change where a service sheds load", () => {
    const text = reasons({ ok: 600, failed: { "http 429": 400 } });
    expect(text).toContain("400 of 1000 requests failed: http 429 x400");
    expect(text).toMatch(/offer less \(--rate, --concurrency\), or raise its rateLimit .* or maxQueueTokens/);
  });
});

describe("the SLO", () => {
  const slo = { p95: ms(100), errorRate: 0.01 };

  it("is met at its limits and missed above them", () => {
    expect(checkSlo(slo, { p95: 100, errorRate: 0.01 }).met).toBe(true);
    expect(checkSlo(slo, { p95: 100.1, errorRate: 0.02 }).missed).toEqual([
      "p95 100.1 ms is above the SLO of 100 ms",
      "2 % of the requests failed, above the SLO of 1 %",
    ]);
  });

  it("cannot be met by a p95 that is n/a", () => {
    expect(checkSlo(slo, { p95: null, errorRate: 0 }).met).toBe(false);
  });
});
