import * as Flags from "@oclif/core/flags";
import type { RollbackResult } from "../app/rollback.js";
import { rollbackText } from "../app/render/deploy-text.js";
import { BaseCommand } from "../base-command.js";
import { lockWait, lockWaitFlag, nodeChoice, parallelFlag, serviceArg } from "../lifecycle-flags.js";

export default class Rollback extends BaseCommand<typeof Rollback> {
  static override summary = "Put a previous release back into service.";
  static override examples = ["<%= config.bin %> rollback", "<%= config.bin %> rollback reranker --to r41"];
  static override args = { service: serviceArg("Return only this service; the others stay as they are.") };
  static override flags = {
    to: Flags.string({ description: "Release to return to (default: the last good one that differs).", helpValue: "rN" }),
    parallel: parallelFlag(),
    "lock-wait": lockWaitFlag(),
  };

  async execute(): Promise<RollbackResult> {
    const { rollback } = await import("../app/rollback.js");
    return rollback(await this.context(nodeChoice(this.flags)), {
      service: this.args.service,
      to: this.flags.to,
      lockWait: lockWait(this.flags["lock-wait"]),
    });
  }

  override render(result: RollbackResult): string {
    return rollbackText(result);
  }
}
