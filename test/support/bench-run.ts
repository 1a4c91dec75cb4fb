import { bench, type BenchTools } from "../../cli/src/app/bench.js";
import { benchRequest, type BenchFlags } from "../../cli/src/app/bench-request.js";
import { type BenchWorkloadName, urlTargets } from "../../cli/src/app/bench-targets.js";
import type { BenchReport } from "../../cli/src/bench/report.js";
import { SystemClock } from "../../cli/src/adapters/clock/system-clock.js";
import { NodeHttpClient } from "../../cli/src/adapters/http/node-http-client.js";
import { loadHost } from "../../cli/src/adapters/load/load-host.js";
import { UndiciLoadGenerator } from "../../cli/src/adapters/load/undici-load-generator.js";

/** The use case with the real load generator, as the command wires it. */
export function benchTools(): BenchTools {
  return {
    http: new NodeHttpClient(),
    clock: new SystemClock(),
    load: new UndiciLoadGenerator(),
    host: loadHost(),
    progress: { emit: () => undefined },
    signal: new AbortController().signal,
    gpuctlVersion: "0.0.0-test",
  };
}

/** One measurement of one service by its address. */
export async function measure(
  url: string,
  flags: Partial<BenchFlags> = {},
  workload: BenchWorkloadName = "embed",
  tools = benchTools(),
): Promise<BenchReport> {
  const given = {
    arrival: "constant",
    timeout: "5s",
    seed: 7,
    quick: true,
    connections: 256,
    "warm-up": "0.3",
    ...flags,
  } as const;
  const request = benchRequest({ command: "gpuctl bench", ...given });
  const { reports } = await bench(tools, { ...request, ...urlTargets(url, workload) });
  const [report] = reports;
  if (report === undefined) throw new Error("no report");
  return report;
}
