import type { IndexFacts } from "../../app/index-upkeep.js";
import { factsText } from "../../app/render/index-upkeep-text.js";
import { BaseCommand } from "../../base-command.js";

export default class IndexSnapshot extends BaseCommand<typeof IndexSnapshot> {
  static override summary = "Make a snapshot, from which a damaged index is rebuilt.";
  static override examples = ["<%= config.bin %> index snapshot", "<%= config.bin %> index snapshot --json"];

  async execute(): Promise<IndexFacts> {
    const { indexSnapshot } = await import("../../app/index-upkeep.js");
    return indexSnapshot(await this.context());
  }

  override render(result: IndexFacts): string {
    return factsText(result);
  }
}
