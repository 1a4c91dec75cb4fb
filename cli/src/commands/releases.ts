import type { ReleasesReport } from "../app/releases.js";
import { releasesText } from "../app/render/history-text.js";
import { BaseCommand } from "../base-command.js";

export default class Releases extends BaseCommand<typeof Releases> {
  static override summary = "List the kept releases and how fast each could be back.";
  static override examples = ["<%= config.bin %> releases", "<%= config.bin %> releases --json"];

  async execute(): Promise<ReleasesReport> {
    const { releases } = await import("../app/releases.js");
    return releases(await this.context());
  }

  override render(result: ReleasesReport): string {
    return releasesText(result);
  }
}
