import type { IndexFacts } from "../../app/index-upkeep.js";
import { indexStatsText } from "../../app/render/index-upkeep-text.js";
import { BaseCommand } from "../../base-command.js";

export default class IndexStats extends BaseCommand<typeof IndexStats> {
  static override summary = "Say what the index holds, how it searches and what it rests on.";
  static override examples = ["<%= config.bin %> index stats", "<%= config.bin %> index stats --json"];

  async execute(): Promise<IndexFacts> {
    const { indexStats } = await import("../../app/index-upkeep.js");
    return indexStats(await this.context());
  }

  override render(result: IndexFacts): string {
    return indexStatsText(result);
  }
}
