import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import type { BenchResult } from "../app/bench.js";
import type { BenchWorkloadName } from "../app/bench-targets.js";
import { BaseCommand } from "../base-command.js";
import { benchTable } from "../bench/table.js";
import type { ExitCodeName } from "../domain/errors.js";

export default class Bench extends BaseCommand<typeof Bench> {
  static override summary = "Measure services under load, and say whether the figures can be trusted.";
  static override description = `Without a word every service of the environment is measured, one after the other.
An open loop (--rate) sends on schedule, as an SLO asks; a closed loop (--concurrency, the default) sends when an answer
came, and measures capacity. Their figures cannot be compared.`;
  static override examples = [
    "<%= config.bin %> bench --quick",
    "<%= config.bin %> bench embed --rate 50 --duration 2m --json --out embed.json",
    "<%= config.bin %> bench rerank --concurrency 8 --gate",
  ];
  static override args = {
    workload: Args.string({ description: "What to measure; none: every service.", options: ["embed", "rerank", "index"] }),
  };
  static override flags = {
    rate: Flags.string({ description: "Open loop: requests a second.", helpValue: "R", exclusive: ["concurrency"] }),
    arrival: Flags.option({ options: ["poisson", "constant"] as const })({ description: "In an open loop.", default: "poisson" }),
    concurrency: Flags.integer({
      description: "Closed loop: requests at a time (4; --quick 2).",
      helpValue: "N",
      min: 1,
      max: 5000,
    }),
    duration: Flags.string({ description: "Measured time (60s; --quick 10s).", helpValue: "TIME" }),
    "warm-up": Flags.string({ description: "Time before it, in the same run (10s; --quick 3s).", helpValue: "TIME" }),
    quick: Flags.boolean({ description: "A short measurement, not for publication." }),
    batch: Flags.integer({ description: "Items a request (embed 8, rerank 20; --quick 4, 8).", min: 1, max: 2048 }),
    seed: Flags.integer({ description: "Decides texts, arrivals and samples.", default: 42, min: 0 }),
    timeout: Flags.string({ description: "Given up on this long after it was due.", default: "30s", helpValue: "TIME" }),
    connections: Flags.integer({ description: "Open loop: connections at most.", default: 256, min: 1, max: 10_000 }),
    url: Flags.string({ description: "Measure this address instead of the environment's.", helpValue: "URL" }),
    gate: Flags.boolean({ description: "Exit 8 when a verdict is INVALID or a configured SLO is missed." }),
    out: Flags.string({ description: "Also write the result as JSON to this file.", helpValue: "FILE" }),
  };

  async execute(): Promise<BenchResult> {
    const [{ bench }, { benchRequest }, { createLoadTools, writeReport }] = await Promise.all([
      import("../app/bench.js"),
      import("../app/bench-request.js"),
      import("../wiring.js"),
    ]);
    const request = benchRequest({ ...this.flags, command: ["gpuctl", "bench", ...this.argv].join(" ") });
    const { tools, targets, embedder } = await this.#where();
    const result = await bench({ ...tools, ...(await createLoadTools()) }, { ...request, targets, embedder });
    if (this.flags.out !== undefined) await writeReport(this.io.cwd, this.flags.out, { schemaVersion: 1, ...result });
    return result;
  }

  override render(result: BenchResult): string {
    return benchTable(result.reports);
  }

  override successExit(result: BenchResult): ExitCodeName {
    return this.flags.gate && !result.passed ? "gateMissed" : "ok";
  }

  async #where() {
    const { configuredTargets, urlTargets } = await import("../app/bench-targets.js");
    const workload = this.args.workload as BenchWorkloadName | undefined;
    if (this.flags.url === undefined) {
      const context = await this.context();
      return { tools: context, ...(await configuredTargets(context, workload)) };
    }
    const { createTools } = await import("../wiring.js");
    return { tools: await createTools(this.toolsRequest()), ...urlTargets(this.flags.url, workload) };
  }
}
