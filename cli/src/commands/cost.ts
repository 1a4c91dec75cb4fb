import * as Flags from "@oclif/core/flags";
import type { CostReport } from "../app/cost.js";
import { costText } from "../app/render/cost-text.js";
import { BaseCommand } from "../base-command.js";

export default class Cost extends BaseCommand<typeof Cost> {
  static override summary = "What environments cost an hour and a month, and what a million embeddings or reranks cost.";
  static override description = `Prices of Hetzner Cloud are read from its API, with HCLOUD_TOKEN; those of other hosts from prices.yaml, which you keep
(docs/guides/cost.md). gpuctl knows no price by itself. All amounts are net. Rates are those that bench --out FILE has measured:
bench*.json beside gpuctl.yaml, or --bench FILE.`;
  static override examples = [
    "<%= config.bin %> cost",
    "<%= config.bin %> cost --environment prod",
    "<%= config.bin %> cost --prices prices.yaml --bench bench-prod.json",
  ];
  static override flags = {
    prices: Flags.string({ description: "Price list (default: prices.yaml beside gpuctl.yaml).", helpValue: "FILE" }),
    bench: Flags.string({
      description: "What bench --out has written; may be given several times.",
      multiple: true,
      helpValue: "FILE",
    }),
  };

  async execute(): Promise<CostReport> {
    const [{ cost }, { costRequest }, { infraTarget }, { benchFiles, createInfra }] = await Promise.all([
      import("../app/cost.js"),
      import("../app/cost-request.js"),
      import("../app/infra-stack.js"),
      import("../wiring/infra.js"),
    ]);
    const load = await this.configRequest();
    const { prices, bench } = this.flags;
    const request = await costRequest(load, { prices, bench, found: benchFiles, warn: (text) => this.warn(text) });
    return cost(await createInfra(await infraTarget(load), this.toolsRequest(), this.io.cwd), request);
  }

  override render(result: CostReport): string {
    return costText(result);
  }
}
