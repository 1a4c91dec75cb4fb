import * as Flags from "@oclif/core/flags";
import type { IndexBenchResult } from "../../app/index-bench.js";
import { indexBenchText } from "../../app/render/index-bench-text.js";
import { BaseCommand } from "../../base-command.js";

export default class IndexBench extends BaseCommand<typeof IndexBench> {
  static override summary = "Measure index types against exact search, on the CPU and a GPU.";
  static override description = `Builds Flat, IVFFlat and IVFPQ of made vectors in a process of its own and prints recall beside every rate, who wins
from which size, and where the CPU beats the GPU. Nothing that runs is touched, but it takes its share of the machine.`;
  static override examples = [
    "<%= config.bin %> index bench --sizes 1K,10K,100K",
    "<%= config.bin %> index bench --dimension 1024 --gpu-id 0 --json --out bench.json",
  ];
  static override flags = {
    sizes: Flags.string({ description: "Numbers of vectors.", default: "1K,10K,100K,1M", helpValue: "LIST" }),
    batches: Flags.string({ description: "Queries a call.", default: "1,32,256", helpValue: "LIST" }),
    dimension: Flags.integer({ description: "Of the vectors.", default: 384, min: 1, max: 65_536 }),
    k: Flags.integer({ description: "Neighbours a query.", default: 10, min: 1, max: 2048 }),
    seconds: Flags.string({ description: "Of searching for each figure.", default: "2", helpValue: "S" }),
    seed: Flags.integer({ description: "Decides vectors and queries.", default: 42, min: 0 }),
    "gpu-id": Flags.integer({ description: "The GPU to measure (default: the first, if any).", min: 0 }),
    out: Flags.string({ description: "Also write the result as JSON to this file.", helpValue: "FILE" }),
  };

  async execute(): Promise<IndexBenchResult> {
    const [{ counts, indexBench }, { createIndexTools, writeReport }] = await Promise.all([
      import("../../app/index-bench.js"),
      import("../../wiring.js"),
    ]);
    const { sizes, batches, dimension, k, seconds, seed, out, "gpu-id": gpu } = this.flags;
    const request = {
      ...{ dimension, k, seed, gpu: gpu ?? null, seconds: Number(seconds) },
      sizes: counts(sizes, "--sizes"),
      batches: counts(batches, "--batches"),
    };
    const { tools } = await createIndexTools(await this.loadConfig(), this.toolsRequest());
    const result = await indexBench(tools, request);
    if (out !== undefined) await writeReport(this.io.cwd, out, { schemaVersion: 1, ...result });
    return result;
  }

  override render(result: IndexBenchResult): string {
    return indexBenchText(result);
  }
}
