import type { RepairResult } from "../app/repair.js";
import { repairText } from "../app/render/deploy-text.js";
import { BaseCommand } from "../base-command.js";
import { hostsFlag, lockWait, lockWaitFlag, nodeChoice } from "../lifecycle-flags.js";

export default class Repair extends BaseCommand<typeof Repair> {
  static override summary = "Mend what a killed command left and start what stopped.";
  static override examples = ["<%= config.bin %> repair", "<%= config.bin %> repair --hosts gpu-2"];
  static override flags = {
    hosts: hostsFlag("Mend only these hosts; the others are left as they are."),
    "lock-wait": lockWaitFlag(),
  };

  async execute(): Promise<RepairResult> {
    const { repair } = await import("../app/repair.js");
    return repair(await this.context(nodeChoice(this.flags)), { lockWait: lockWait(this.flags["lock-wait"]) });
  }

  override render(result: RepairResult): string {
    return repairText(result);
  }
}
