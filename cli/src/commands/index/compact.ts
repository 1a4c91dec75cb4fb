import type { IndexFacts } from "../../app/index-upkeep.js";
import { factsText } from "../../app/render/index-upkeep-text.js";
import { BaseCommand } from "../../base-command.js";

export default class IndexCompact extends BaseCommand<typeof IndexCompact> {
  static override summary = "Give back the space of what was deleted.";
  static override examples = ["<%= config.bin %> index compact", "<%= config.bin %> index compact --json"];

  async execute(): Promise<IndexFacts> {
    const { indexCompact } = await import("../../app/index-upkeep.js");
    return indexCompact(await this.context());
  }

  override render(result: IndexFacts): string {
    return factsText(result);
  }
}
