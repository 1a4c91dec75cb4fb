/**
 * The benchmark against a service whose delays and faults are known, as a process of its own. These are the project's only
 * tests that judge by the clock: their bounds are wide enough for a busy machine and narrow enough to catch a wrong origin.
 */
import { describe, expect, it, onTestFinished } from "vitest";
import { bench } from "../../cli/src/app/bench.js";
import { benchRequest } from "../../cli/src/app/bench-request.js";
import { urlTargets } from "../../cli/src/app/bench-targets.js";
import type { BenchReport } from "../../cli/src/bench/report.js";
import { benchTools, measure } from "../support/bench-run.js";
import { type StubOptions, StubServer } from "../support/stub-server.js";

/** Lives as long as the test that asked for it. */
async function stub(options: StubOptions): Promise<StubServer> {
  const server = await StubServer.start(options);
  onTestFinished(() => server.stop());
  return server;
}

/** A figure that must be there. */
function seen(value: number | null): number {
  if (value === null) throw new Error("the figure is n/a");
  return value;
}

const reasonsOf = (report: BenchReport): string => report.reasons.join("\n");

describe("known delays", () => {
  it("a service that always takes 200 ms is reported with 200 ms at every percentile", async () => {
    const { url } = await stub({ delayMs: 200 });
    const { latency, meanInFlight } = await measure(url, { rate: "100", duration: "5" });
    for (const summary of [latency.response, latency.service]) {
      for (const value of [summary.p50, summary.p75, summary.p90]) {
        expect(seen(value)).toBeGreaterThanOrEqual(199);
        expect(seen(value)).toBeLessThan(230);
      }
      expect(seen(summary.p99)).toBeGreaterThanOrEqual(199);
      expect(seen(summary.p99)).toBeLessThan(400);
    }
    expect(meanInFlight).toBeGreaterThan(19);
  });

  it("the same delay is reported by a closed loop", async () => {
    const { url } = await stub({ delayMs: 50 });
    const { latency, throughput, verdict } = await measure(url, { concurrency: 4, duration: "2" });
    expect(seen(latency.response.p50)).toBeGreaterThanOrEqual(49.5);
    expect(seen(latency.response.p50)).toBeLessThan(70);
    expect(throughput.requestsPerSecond).toBeGreaterThan(50);
    expect(throughput.requestsPerSecond).toBeLessThan(81);
    expect(verdict).not.toBe("VALID");
  });

  it("one request in ten that takes 500 ms shows from p95 on and not at p75", async () => {
    const { url } = await stub({ delayMs: 10, slowShare: 0.1, slowMs: 500 });
    const { latency } = await measure(url, { rate: "100", arrival: "poisson", duration: "5" });
    expect(seen(latency.response.p50)).toBeGreaterThanOrEqual(9.5);
    expect(seen(latency.response.p75)).toBeLessThan(100);
    expect(seen(latency.response.p95)).toBeGreaterThanOrEqual(499);
    expect(seen(latency.response.p99)).toBeLessThan(900);
  });
});

describe("a frozen service", () => {
  it("that stands still for 5 s of 10 s shows in p75 of the response time, and the service time hides it", async () => {
    const server = await stub({ delayMs: 1 });
    const measured = measure(server.url, { rate: "100", duration: "10", timeout: "20s", connections: 8 });
    await new Promise((resolve) => setTimeout(resolve, 2000));
    await server.freeze(5000);
    const { latency, requests } = await measured;
    expect(seen(latency.response.p75)).toBeGreaterThan(1500);
    expect(seen(latency.response.p75)).toBeLessThan(4000);
    expect(seen(latency.service.p75)).toBeLessThan(500);
    expect(requests).toMatchObject({ scheduled: 1000, ok: 1000, timeouts: 0 });
  });
});

describe("faults are counted and make the verdict INVALID", () => {
  const faults = [
    ["http-503", { "http 503": 10 }, "10 of 100 requests failed: http 503 x10"],
    ["reset", { "connection reset": 10 }, "10 of 100 requests failed: connection reset x10"],
    ["short-body", { "connection reset": 10 }, "10 of 100 requests failed: connection reset x10"],
    ["zero-vectors", {}, "10 of 100 answers checked: a vector is all zeros"],
    ["nan", {}, "10 of 100 answers checked: a vector holds numbers that are not finite"],
    ["wrong-dimension", {}, "10 of 100 answers checked: a vector has 7 dimensions instead of 8"],
    ["missing-item", {}, "10 of 100 answers checked: it has 3 vectors for 4 texts"],
    ["wrong-index", {}, "10 of 100 answers checked: its items are not in the order of their index"],
  ] as const;

  it.each(faults)("%s", async (fault, failed, reason) => {
    const { url } = await stub({ delayMs: 1, fault, faultEvery: 10 });
    const report = await measure(url, { rate: "100", duration: "1", "warm-up": "0" });
    expect(report.verdict).toBe("INVALID");
    expect(report.requests).toMatchObject({ scheduled: 100, failed });
    expect(reasonsOf(report)).toContain(reason);
    if (Object.keys(failed).length > 0) expect(report.latency.response.p95).toBe(5000);
  });

  it("answers that belong to another text are found by asking again", async () => {
    const { url } = await stub({ fault: "wrong-order", faultEvery: 3 });
    const report = await measure(url, { rate: "100", duration: "1" });
    expect(reasonsOf(report)).toContain(
      "asked again: the same texts in reverse order did not get the same vectors in reverse order",
    );
  });

  it.each(["wrong-order", "missing-item", "wrong-index", "nan"] as const)("reranker and index: %s", async (fault) => {
    const { url } = await stub({ fault, faultEvery: 10, delayMs: 1 });
    for (const workload of ["rerank", "index"] as const) {
      const report = await measure(url, { rate: "100", duration: "1", "warm-up": "0" }, workload);
      expect(report.verdict).toBe("INVALID");
      expect(reasonsOf(report)).toMatch(/of 100 answers checked: /);
    }
  });

  it("a request that is never answered counts with the timeout, from the moment it was due", async () => {
    const { url } = await stub({ delayMs: 1, fault: "hang", faultEvery: 10 });
    const report = await measure(url, { rate: "100", duration: "1", "warm-up": "0", timeout: "700ms" });
    expect(report.requests).toMatchObject({ scheduled: 100, ok: 90, timeouts: 10 });
    expect(report.latency.response.max).toBe(700);
    expect(reasonsOf(report)).toContain("10 of 100 requests timed out");
  });

  it("a failure during warm-up is a failure", async () => {
    const { url } = await stub({ delayMs: 1, fault: "http-503", faultEvery: 40 });
    const report = await measure(url, { rate: "100", duration: "1", "warm-up": "0.6" });
    expect(reasonsOf(report)).toContain("1 of 60 requests failed during warm-up");
  });

  it("a device that changes half way", async () => {
    const { url } = await stub({ delayMs: 1, devices: ["cuda", "cuda", "cuda", "cpu"] });
    const report = await measure(url, { rate: "100", duration: "1" });
    expect(reasonsOf(report)).toContain("the device changed during the measurement: cpu, cuda");
  });

  it("a service that answers out of a cache although it was asked not to", async () => {
    const { url } = await stub({ delayMs: 1, cache: "stubborn" });
    const report = await measure(url, { rate: "100", duration: "1" });
    expect(reasonsOf(report)).toMatch(/\d+ answers came out of the service's cache/);
    const { url: polite } = await stub({ delayMs: 1, cache: "polite" });
    expect(reasonsOf(await measure(polite, { rate: "100", duration: "1" }))).not.toContain("cache");
  });

  it("a substitute that ranks the first documents of a request only", async () => {
    const { url } = await stub({ delayMs: 1, ranked: "3/8" });
    const report = await measure(url, { rate: "100", duration: "1" }, "rerank");
    expect(report.reasons).toEqual([expect.stringMatching(/^500 documents were not ranked, because a substitute answers/)]);
    expect(report.checks.askedAgain).toBe(0);
  });

  it("a service that answers on cpu although cuda was wished", async () => {
    const { url } = await stub({ delayMs: 1, devices: ["cpu"] });
    const { targets, embedder } = urlTargets(url, "embed");
    const request = benchRequest({
      arrival: "constant",
      timeout: "5",
      seed: 1,
      "warm-up": "0",
      quick: true,
      connections: 64,
      command: "",
      rate: "100",
      duration: "1",
    });
    const wished = targets.map((target) => ({ ...target, deviceWished: "cuda" as const }));
    const { reports, passed } = await bench(benchTools(), { ...request, targets: wished, embedder });
    expect(passed).toBe(false);
    expect(reports[0]?.reasons).toContain("answers came from cpu, and cuda was wished");
  });

  it("a service that cannot keep up with the rate", async () => {
    const { url } = await stub({ delayMs: 50 });
    const report = await measure(url, { rate: "100", duration: "2", connections: 2 });
    expect(reasonsOf(report)).toMatch(/achieved \d+\.\d of 100\.0 requests\/s offered: below 99 %/);
  });
});

describe("a starved load generator", () => {
  it.each([{ rate: "100" }, { concurrency: 4 }])("is INVALID, not a slow service (%o)", async (mode) => {
    const { url } = await stub({ delayMs: 5 });
    const hog = setInterval(() => {
      const until = performance.now() + 60;
      while (performance.now() < until);
    }, 90);
    try {
      const report = await measure(url, { ...mode, duration: "2" });
      expect(report.verdict).toBe("INVALID");
      expect(reasonsOf(report)).toContain("the load generator was late");
    } finally {
      clearInterval(hog);
    }
  });
});

describe("a measurement that is interrupted", () => {
  it.each([{ rate: "100" }, { concurrency: 4 }])("ends at once, with requests unanswered (%o)", async (mode) => {
    const { url } = await stub({ delayMs: 60_000 });
    const stop = new AbortController();
    const measured = measure(url, { ...mode, duration: "60" }, "embed", { ...benchTools(), signal: stop.signal });
    const ended = measured.catch((error: unknown) => error);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const began = performance.now();
    stop.abort(new Error("stopped by SIGINT"));
    expect(await ended).toMatchObject({ message: "stopped by SIGINT" });
    expect(performance.now() - began).toBeLessThan(5000);
  });
});

describe("without a service", () => {
  it("the error says so and names the next command", async () => {
    const server = await stub({});
    await server.stop();
    await expect(measure(server.url)).rejects.toMatchObject({
      exit: "targetUnreachable",
      nextSteps: ["gpuctl status", "gpuctl deploy"],
    });
  });
});
