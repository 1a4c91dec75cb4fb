import * as Flags from "@oclif/core/flags";
import type { PlanReport } from "../app/plan.js";
import { planText } from "../app/render/plan-text.js";
import { BaseCommand } from "../base-command.js";
import type { ExitCodeName } from "../domain/errors.js";
import { acceptNewFlag, serviceArg } from "../lifecycle-flags.js";

export default class Plan extends BaseCommand<typeof Plan> {
  static override summary = "Say what a deploy would do, and change nothing.";
  static override examples = ["<%= config.bin %> plan", "<%= config.bin %> plan reranker", "<%= config.bin %> plan --exit-code"];
  static override args = { service: serviceArg("Plan only this service; the others stay as they are.") };
  static override flags = {
    ...acceptNewFlag,
    "exit-code": Flags.boolean({ description: "Exit with 7 when there is something to do." }),
  };

  async execute(): Promise<PlanReport> {
    const { plan } = await import("../app/plan.js");
    return plan(await this.context(), { service: this.args.service });
  }

  override render(result: PlanReport): string {
    return planText(result);
  }

  override successExit(result: PlanReport): ExitCodeName {
    return this.flags["exit-code"] && !result.empty ? "changesPending" : "ok";
  }
}
