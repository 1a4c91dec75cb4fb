import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import { dirname } from "node:path";
import type { IndexAddResult } from "../../app/index-add.js";
import { indexAddText } from "../../app/render/index-add-text.js";
import { BaseCommand } from "../../base-command.js";

export default class IndexAdd extends BaseCommand<typeof IndexAdd> {
  static override summary = "Bring the index up to date with documents.";
  static override description = `Reads Markdown, text and JSON lines ({"id", "text", "metadata"}), cuts them into chunks that the model can read
whole, embeds and stores them with file and line. Unchanged chunks are skipped; chunks that a file no longer has are deleted, and so are those of
files that are gone from a given directory.
It can be interrupted at any time: what was added stays, and the same command goes on from there.`;
  static override examples = [
    "<%= config.bin %> index add docs",
    "<%= config.bin %> index add README.md notes.jsonl --namespace support",
  ];
  static override args = {
    paths: Args.string({ description: "Files and directories.", required: true, multiple: true }),
  };
  static override flags = {
    namespace: Flags.string({ description: "Part of the index to add to.", default: "default", helpValue: "NAME" }),
    batch: Flags.integer({ description: "Texts a request to the embedder.", default: 32, min: 1, max: 512 }),
  };

  async execute(): Promise<IndexAddResult> {
    const { indexAdd } = await import("../../app/index-add.js");
    const { serviceAddress } = await import("../../app/service-address.js");
    const { createDocumentReader } = await import("../../wiring.js");
    const context = await this.context();
    const { config } = context;
    const [embedder, index] = await Promise.all([serviceAddress(context, "embedder"), serviceAddress(context, "index")]);
    const documents = await createDocumentReader(this.io.cwd, dirname(config.projectFile));
    const { namespace, batch } = this.flags;
    return indexAdd({ ...context, documents }, { paths: this.args.paths, namespace, batch, embedder, index });
  }

  override render(result: IndexAddResult): string {
    return indexAddText(result);
  }
}
