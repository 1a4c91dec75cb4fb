import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import type { IndexFacts } from "../../app/index-upkeep.js";
import { factsText } from "../../app/render/index-upkeep-text.js";
import { BaseCommand } from "../../base-command.js";

export default class IndexRemove extends BaseCommand<typeof IndexRemove> {
  static override summary = "Remove a namespace with everything in it.";
  static override description = `For what a migration kept (\`<%= config.bin %> index stats\` lists it), or any other namespace that is not wanted any more. Nothing of it is
found from the first moment; its items are then deleted between other writes. Only a backup brings them back.`;
  static override examples = [
    "<%= config.bin %> index remove default~before-1c0ffee1 --confirm default~before-1c0ffee1",
    "<%= config.bin %> index remove old-docs --confirm old-docs --json",
  ];
  static override args = { namespace: Args.string({ description: "Namespace to remove.", required: true }) };
  static override flags = {
    confirm: Flags.string({ description: "Name of the namespace, to confirm.", helpValue: "NAME" }),
  };

  async execute(): Promise<IndexFacts> {
    const { indexRemove } = await import("../../app/index-upkeep.js");
    return indexRemove(await this.context(), { namespace: this.args.namespace, confirm: this.flags.confirm });
  }

  override render(result: IndexFacts): string {
    return factsText(result);
  }
}
