import type { IndexFacts } from "../../app/index-upkeep.js";
import { factsText } from "../../app/render/index-upkeep-text.js";
import { BaseCommand } from "../../base-command.js";

export default class IndexRebuild extends BaseCommand<typeof IndexRebuild> {
  static override summary = "Make the FAISS indexes again from the stored vectors; the old ones serve meanwhile.";
  static override examples = ["<%= config.bin %> index rebuild", "<%= config.bin %> index rebuild --json"];

  async execute(): Promise<IndexFacts> {
    const { indexRebuild } = await import("../../app/index-upkeep.js");
    return indexRebuild(await this.context());
  }

  override render(result: IndexFacts): string {
    return factsText(result);
  }
}
