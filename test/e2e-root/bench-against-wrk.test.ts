import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { measure } from "../support/bench-run.js";
import { StubServer } from "../support/stub-server.js";

const connections = 4;
const seconds = 4;

/** An independent load generator, written in C, asked for the same load: closed loop, kept connections, the same request. */
describe("gpuctl bench and wrk on the same service", () => {
  let scratch: string;
  let stub: StubServer;

  beforeEach(async () => {
    scratch = mkdtempSync(join(tmpdir(), "gpuctl-wrk-"));
    stub = await StubServer.start({ delayMs: 20 });
  });

  afterEach(async () => {
    await stub.stop();
    rmSync(scratch, { recursive: true });
  });

  test("agree on the median within 5 %, measured in turns", async () => {
    const medians: { ours: number[]; wrk: number[] } = { ours: [], wrk: [] };
    for (let round = 0; round < 3; round += 1) {
      const { latency } = await measure(stub.url, { concurrency: connections, duration: String(seconds), "warm-up": "1" });
      medians.ours.push(latency.response.p50 ?? Number.NaN);
      medians.wrk.push(wrkMedian(stub.url, scratch));
    }
    const ratio = middle(medians.ours) / middle(medians.wrk);
    expect(ratio, JSON.stringify(medians)).toBeGreaterThan(0.95);
    expect(ratio, JSON.stringify(medians)).toBeLessThan(1.05);
  });
});

/** Median in milliseconds. wrk's Lua hook gives it in microseconds, where its table rounds to three digits. */
function wrkMedian(url: string, scratch: string): number {
  const script = join(scratch, "embed.lua");
  const body = JSON.stringify({
    encoding_format: "base64",
    input: Array.from({ length: 8 }, (_, at) => `text number ${at.toString()}`),
  });
  writeFileSync(
    script,
    `wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = [==[${body}]==]
done = function(summary, latency) io.write("median " .. latency:percentile(50) .. "\\n") end
`,
  );
  const args = [
    "--threads",
    "1",
    "--connections",
    connections.toString(),
    "--duration",
    `${seconds.toString()}s`,
    "--script",
    script,
  ];
  const output = execFileSync("wrk", [...args, `${url}/v1/embeddings`], { encoding: "utf8" });
  expect(output).not.toContain("Non-2xx");
  return Number(/^median (\d+)/m.exec(output)?.[1]) / 1000;
}

function middle(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] ?? Number.NaN;
}
