import * as Flags from "@oclif/core/flags";
import type { PruneResult } from "../app/prune.js";
import { BaseCommand } from "../base-command.js";
import { lockWait, lockWaitFlag } from "../lifecycle-flags.js";

export default class Prune extends BaseCommand<typeof Prune> {
  static override summary = "Remove releases beyond retention and the files that nothing kept names.";
  static override description =
    "Only good releases count towards retention; a run of failed deploys never removes one you could return to. On hosts, images that nothing there needs go too. Models stay, because environments share them; with --models those leave that no release of any environment on the host names, that no container has, and that did not come within the last hour.";
  static override examples = [
    "<%= config.bin %> prune",
    "<%= config.bin %> prune --json",
    "<%= config.bin %> prune -e production --models",
  ];
  static override flags = {
    models: Flags.boolean({ description: "Remove models from the hosts that no release there names." }),
    "lock-wait": lockWaitFlag(),
  };

  async execute(): Promise<PruneResult> {
    const { prune } = await import("../app/prune.js");
    return prune(await this.context(), { models: this.flags.models, lockWait: lockWait(this.flags["lock-wait"]) });
  }

  override render({ removed, models }: PruneResult): string {
    const gone = models?.removed.map(({ what, bytes }) => `${what} (${(bytes / 2 ** 20).toFixed(1)} MiB)`) ?? [];
    const lines = [...removed, ...gone];
    const said = lines.length === 0 ? "Nothing to remove." : `Removed:\n${lines.map((line) => `  ${line}`).join("\n")}`;
    return [said, ...(models?.kept.map((line) => `Kept on ${line}`) ?? [])].join("\n");
  }
}
