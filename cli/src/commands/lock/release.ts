import * as Flags from "@oclif/core/flags";
import type { LockReleased } from "../../app/lock-release.js";
import { BaseCommand } from "../../base-command.js";

export default class LockReleaseCommand extends BaseCommand<typeof LockReleaseCommand> {
  static override summary = "Break the lease of a command that is gone.";
  static override description =
    "A command on this machine that ended loses its lease by itself; this is for what remains. A live one is broken only with --force.";
  static override examples = ["<%= config.bin %> lock release", "<%= config.bin %> lock release --force"];
  static override flags = { force: Flags.boolean({ description: "Break it although its holder is at work." }) };

  async execute(): Promise<LockReleased> {
    const { lockRelease } = await import("../../app/lock-release.js");
    return lockRelease(await this.context(), { force: this.flags.force });
  }

  override render({ environment, broken }: LockReleased): string {
    if (broken === null) return `Environment ${environment}: the lease was free.`;
    return `Environment ${environment}: broke the lease of ${broken.command} by ${broken.owner} (${broken.state}). gpuctl repair mends what it left.`;
  }
}
