import type { IndexFacts } from "../../app/index-upkeep.js";
import { factsText } from "../../app/render/index-upkeep-text.js";
import { BaseCommand } from "../../base-command.js";

export default class IndexVerify extends BaseCommand<typeof IndexVerify> {
  static override summary = "Read the whole index and compare hashes, checksums, counts and what searches find.";
  static override description =
    "The running index does it while it serves; without one the files are read directly. Exit 1 names everything that is wrong.";
  static override examples = ["<%= config.bin %> index verify", "<%= config.bin %> index verify --json"];

  async execute(): Promise<IndexFacts> {
    const [{ indexVerify }, { createIndexTools }] = await Promise.all([
      import("../../app/index-upkeep.js"),
      import("../../wiring.js"),
    ]);
    const context = await this.context();
    return indexVerify(context, await createIndexTools(context.config, this.toolsRequest()));
  }

  override render(result: IndexFacts): string {
    return `${factsText(result)}\nNothing is wrong.`;
  }
}
