import * as Args from "@oclif/core/args";
import type { ReleaseDiff } from "../domain/diff.js";
import { diffText } from "../app/render/history-text.js";
import { BaseCommand } from "../base-command.js";

export default class Diff extends BaseCommand<typeof Diff> {
  static override summary = "Say what differs between two releases.";
  static override examples = ["<%= config.bin %> diff r3 r4", "<%= config.bin %> diff 3 r4-9f3ab2c1"];
  static override args = {
    from: Args.string({ description: "A release: its number or id.", required: true }),
    to: Args.string({ description: "The release to compare with.", required: true }),
  };

  async execute(): Promise<ReleaseDiff> {
    const { diff } = await import("../app/diff.js");
    return diff(await this.context(), { from: this.args.from, to: this.args.to });
  }

  override render(result: ReleaseDiff): string {
    return diffText(result);
  }
}
