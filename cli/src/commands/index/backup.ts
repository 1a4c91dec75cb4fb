import * as Flags from "@oclif/core/flags";
import { resolve } from "node:path";
import type { IndexFacts } from "../../app/index-upkeep.js";
import { factsText } from "../../app/render/index-upkeep-text.js";
import { BaseCommand } from "../../base-command.js";

export default class IndexBackup extends BaseCommand<typeof IndexBackup> {
  static override summary = "Copy the index into a directory, while it serves.";
  static override description = "With hashes of every file and the identity of the model its vectors belong to.";
  static override examples = [
    "<%= config.bin %> index backup --to backups/monday",
    "<%= config.bin %> index backup -e staging --to /mnt/index",
  ];
  static override flags = {
    to: Flags.string({ description: "A directory that does not exist yet.", required: true, helpValue: "DIR" }),
  };

  async execute(): Promise<IndexFacts> {
    const [{ indexBackup }, { createIndexTools }] = await Promise.all([
      import("../../app/index-upkeep.js"),
      import("../../wiring.js"),
    ]);
    const context = await this.context();
    const place = await createIndexTools(context.config, this.toolsRequest());
    return indexBackup(context, place, resolve(this.io.cwd, this.flags.to));
  }

  override render(result: IndexFacts): string {
    return factsText(result);
  }
}
