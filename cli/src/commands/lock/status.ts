import type { LockStatus } from "../../app/lock-status.js";
import { lockText } from "../../app/render/history-text.js";
import { BaseCommand } from "../../base-command.js";

export default class LockStatusCommand extends BaseCommand<typeof LockStatusCommand> {
  static override summary = "Say who may change the environment now.";
  static override examples = ["<%= config.bin %> lock status", "<%= config.bin %> lock status -e staging --json"];

  async execute(): Promise<LockStatus> {
    const { lockStatus } = await import("../../app/lock-status.js");
    return lockStatus(await this.context());
  }

  override render(result: LockStatus): string {
    return lockText(result);
  }
}
