import * as Flags from "@oclif/core/flags";
import type { DryRunReport } from "../app/dry-run.js";
import type { RollbackResult } from "../app/rollback.js";
import { rollbackText } from "../app/render/deploy-text.js";
import { dryRunText } from "../app/render/dry-run-text.js";
import { BaseCommand } from "../base-command.js";
import type { ExitCodeName } from "../domain/errors.js";
import { hostsLeftOut } from "../domain/host-table.js";
import { hostsFlag, lockWait, lockWaitFlag, nodeChoice, parallelFlag, serviceArg } from "../lifecycle-flags.js";

export default class Rollback extends BaseCommand<typeof Rollback> {
  static override summary = "Put a previous release back into service.";
  static override examples = [
    "<%= config.bin %> rollback",
    "<%= config.bin %> rollback reranker --to r41",
    "<%= config.bin %> rollback --dry-run",
  ];
  static override args = { service: serviceArg("Return only this service; the others stay as they are.") };
  static override flags = {
    "dry-run": Flags.boolean({ description: "Print the plan and every command that hosts would be given; change nothing." }),
    to: Flags.string({ description: "Release to return to (default: the last good one that differs).", helpValue: "rN" }),
    hosts: hostsFlag("Only these hosts; the others are left out, which needs them to be out of reach (exit code 9)."),
    parallel: parallelFlag(),
    "lock-wait": lockWaitFlag(),
  };

  async execute(): Promise<RollbackResult | DryRunReport> {
    const { dryRunRollback, rollback } = await import("../app/rollback.js");
    const wanted = { service: this.args.service, to: this.flags.to };
    const wait = lockWait(this.flags["lock-wait"]);
    const context = await this.context(nodeChoice(this.flags));
    return this.flags["dry-run"] ? dryRunRollback(context, wanted) : rollback(context, { ...wanted, lockWait: wait });
  }

  override successExit(result: RollbackResult | DryRunReport): ExitCodeName {
    return !("steps" in result) && hostsLeftOut(result.hosts).length > 0 ? "targetMixed" : "ok";
  }

  override render(result: RollbackResult | DryRunReport): string {
    return "steps" in result ? dryRunText(result) : rollbackText(result);
  }
}
