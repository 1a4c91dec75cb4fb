import type { PruneResult } from "../app/prune.js";
import { BaseCommand } from "../base-command.js";
import { lockWait, lockWaitFlag } from "../lifecycle-flags.js";

export default class Prune extends BaseCommand<typeof Prune> {
  static override summary = "Remove releases beyond retention and the files that nothing kept names.";
  static override description =
    "Only good releases count towards retention; a run of failed deploys never removes one you could return to. On hosts, images that nothing there needs go too; models stay, because environments share them: gpuctl destroy --models removes them.";
  static override examples = ["<%= config.bin %> prune", "<%= config.bin %> prune --json"];
  static override flags = { "lock-wait": lockWaitFlag() };

  async execute(): Promise<PruneResult> {
    const { prune } = await import("../app/prune.js");
    return prune(await this.context(), { lockWait: lockWait(this.flags["lock-wait"]) });
  }

  override render({ removed }: PruneResult): string {
    return removed.length === 0 ? "Nothing to remove." : `Removed:\n${removed.map((line) => `  ${line}`).join("\n")}`;
  }
}
