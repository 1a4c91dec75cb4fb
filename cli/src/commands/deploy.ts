import * as Flags from "@oclif/core/flags";
import type { DeployResult } from "../app/deploy.js";
import type { DryRunReport } from "../app/dry-run.js";
import { deployText } from "../app/render/deploy-text.js";
import { dryRunText } from "../app/render/dry-run-text.js";
import { systemdUnit } from "../app/render/unit.js";
import { BaseCommand } from "../base-command.js";
import { UsageError, type ExitCodeName } from "../domain/errors.js";
import { hostsLeftOut } from "../domain/host-table.js";
import type { Milliseconds } from "../domain/units.js";
import { acceptNewFlag, hostsFlag, lockWait, lockWaitFlag, nodeChoice, parallelFlag, serviceArg } from "../lifecycle-flags.js";
import type { Context } from "../ports.js";

type Result = DeployResult | DryRunReport | { unit: string };

export default class Deploy extends BaseCommand<typeof Deploy> {
  static override summary = "Bring what the project file says into service, or leave the old release serving and say why.";
  static override examples = [
    "<%= config.bin %> deploy",
    "<%= config.bin %> deploy reranker --lock-wait 30s",
    "<%= config.bin %> deploy --parallel 3",
    "<%= config.bin %> deploy --hosts gpu-1,gpu-2",
    "<%= config.bin %> deploy --continue",
    "<%= config.bin %> deploy --dry-run",
    "<%= config.bin %> deploy --print-unit > ~/.config/systemd/user/gpuctl.service",
  ];
  static override args = { service: serviceArg("Deploy only this service; the others stay as they are.") };
  static override flags = {
    ...acceptNewFlag,
    "dry-run": Flags.boolean({ description: "Print the plan and every command that would change hosts; change nothing." }),
    continue: Flags.boolean({
      description: "Finish a deploy that was cut short, on the hosts that lack its release, instead of taking it back.",
      exclusive: ["dry-run", "print-unit"],
    }),
    hosts: hostsFlag(
      "Only these hosts. Another release is put on them alone when none of the others can be reached (exit code 9); else they are brought to the current one.",
    ),
    parallel: parallelFlag(),
    "lock-wait": lockWaitFlag(),
    "print-unit": Flags.boolean({ description: "Print a systemd user unit that serves the current release after a reboot." }),
  };

  async execute(): Promise<Result> {
    const service = this.args.service;
    if (this.flags["print-unit"]) return this.#unit();
    const context = (): Promise<Context> => this.context(nodeChoice(this.flags));
    if (this.flags["dry-run"]) {
      const { dryRunDeploy } = await import("../app/dry-run.js");
      return dryRunDeploy(await context(), service);
    }
    const wait = lockWait(this.flags["lock-wait"]);
    if (this.flags.continue) return this.#continue(context, wait);
    const { deploy } = await import("../app/deploy.js");
    return deploy(await context(), { service, lockWait: wait });
  }

  async #continue(context: () => Promise<Context>, wait: Milliseconds): Promise<Result> {
    if (this.args.service !== undefined)
      throw new UsageError("--continue takes no service", {
        because: "a release is finished as it was begun, with all its services",
      });
    const { continueDeploy } = await import("../app/continue.js");
    return continueDeploy(await context(), { lockWait: wait });
  }

  async #unit(): Promise<{ unit: string }> {
    const { project, environment, projectFile } = await this.loadConfig();
    const program = `${this.config.root}/cli/bin/run.js`;
    return { unit: systemdUnit({ project, environment, projectFile, program, node: process.execPath }) };
  }

  override successExit(result: Result): ExitCodeName {
    return "outcome" in result && hostsLeftOut(result.hosts).length > 0 ? "targetMixed" : "ok";
  }

  override render(result: Result): string {
    if ("unit" in result) return result.unit;
    return "outcome" in result ? deployText(result) : dryRunText(result);
  }
}
