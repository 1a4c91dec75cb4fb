import * as Flags from "@oclif/core/flags";
import type { DeployResult } from "../app/deploy.js";
import type { PlanReport } from "../app/plan.js";
import { deployText } from "../app/render/deploy-text.js";
import { planText } from "../app/render/plan-text.js";
import { systemdUnit } from "../app/render/unit.js";
import { BaseCommand } from "../base-command.js";
import { lockWait, lockWaitFlag, serviceArg } from "../lifecycle-flags.js";

type Result = DeployResult | PlanReport | { unit: string };

export default class Deploy extends BaseCommand<typeof Deploy> {
  static override summary = "Bring what the project file says into service, or leave the old release serving and say why.";
  static override examples = [
    "<%= config.bin %> deploy",
    "<%= config.bin %> deploy reranker --lock-wait 30s",
    "<%= config.bin %> deploy --dry-run",
    "<%= config.bin %> deploy --print-unit > ~/.config/systemd/user/gpuctl.service",
  ];
  static override args = { service: serviceArg("Deploy only this service; the others stay as they are.") };
  static override flags = {
    "dry-run": Flags.boolean({ description: "Print the plan and change nothing." }),
    "lock-wait": lockWaitFlag(),
    "print-unit": Flags.boolean({ description: "Print a systemd user unit that serves the current release after a reboot." }),
  };

  async execute(): Promise<Result> {
    const service = this.args.service;
    if (this.flags["print-unit"]) return this.#unit();
    if (this.flags["dry-run"]) {
      const { plan } = await import("../app/plan.js");
      return plan(await this.context(), { service });
    }
    const { deploy } = await import("../app/deploy.js");
    return deploy(await this.context(), { service, lockWait: lockWait(this.flags["lock-wait"]) });
  }

  async #unit(): Promise<{ unit: string }> {
    const { project, environment, projectFile } = await this.loadConfig();
    const program = `${this.config.root}/cli/bin/run.js`;
    return { unit: systemdUnit({ project, environment, projectFile, program, node: process.execPath }) };
  }

  override render(result: Result): string {
    if ("unit" in result) return result.unit;
    return "outcome" in result ? deployText(result) : planText(result);
  }
}
