import * as Flags from "@oclif/core/flags";
import { resolve } from "node:path";
import type { MigrateResult } from "../../app/index-migrate.js";
import { indexBenchText } from "../../app/render/index-bench-text.js";
import { indexMigrateText } from "../../app/render/index-migrate-text.js";
import { BaseCommand } from "../../base-command.js";

export default class IndexMigrate extends BaseCommand<typeof IndexMigrate> {
  static override summary = "Take an existing FAISS file with its documents into the index.";
  static override description = `Check, back up, load beside what serves, verify recall against the source, and only then switch by one rename.
Run again after any interruption: it goes on where it stopped. A step that fails leaves in service what was there.
Documents are LangChain's index.pkl (read without running anything it names) or JSON lines {"id", "text", "metadata"}.`;
  static override examples = [
    "<%= config.bin %> index migrate --index-path faiss/index.faiss --check-only",
    "<%= config.bin %> index migrate --index-path faiss/index.faiss --dimension 384 --backup-dir backups/faiss",
    "<%= config.bin %> index migrate --index-path faiss/index.faiss --undo",
  ];
  static override flags = {
    "index-path": Flags.string({ description: "The file that faiss.write_index made.", required: true, helpValue: "FILE" }),
    documents: Flags.string({ description: "Its documents (default: .pkl or .jsonl beside it).", helpValue: "FILE" }),
    namespace: Flags.string({ description: "Part of the index to fill.", default: "default", helpValue: "NAME" }),
    dimension: Flags.integer({ description: "Refuse a file of another dimension.", min: 1 }),
    "gpu-id": Flags.integer({ description: "The GPU that --benchmark measures (default: the first, if any).", min: 0 }),
    "backup-dir": Flags.string({
      description: "Where copies and the journal go (default: the state directory).",
      helpValue: "DIR",
    }),
    "check-only": Flags.boolean({ description: "Look, change nothing." }),
    "dry-run": Flags.boolean({ description: "The same as --check-only." }),
    benchmark: Flags.boolean({ description: "Measure CPU and GPU search on vectors of this dimension afterwards." }),
    "re-embed": Flags.boolean({ description: "Make the vectors again from the texts." }),
    "accept-lossy": Flags.boolean({ description: "Take the approximations that a PQ or SQ index keeps." }),
    "assume-same-model": Flags.boolean({ description: "Do not check that the deployed model made the vectors." }),
    "recall-loss": Flags.string({ description: "Recall@10 that may be lost.", default: "0.01", helpValue: "SHARE" }),
    undo: Flags.boolean({ description: "Put back what was served before.", exclusive: ["check-only", "dry-run"] }),
  };

  async execute(): Promise<MigrateResult> {
    const [{ indexMigrate }, { serviceAddress }, { createIndexTools }] = await Promise.all([
      import("../../app/index-migrate.js"),
      import("../../app/service-address.js"),
      import("../../wiring.js"),
    ]);
    const context = await this.context();
    const { config } = context;
    const { tools, state } = await createIndexTools(config, this.toolsRequest());
    const path = (name: string | undefined): string | null => (name === undefined ? null : resolve(this.io.cwd, name));
    const { flags } = this;
    return indexMigrate(tools, {
      action: flags.undo ? "undo" : this.#looksOnly ? "check" : "migrate",
      indexPath: resolve(this.io.cwd, flags["index-path"]),
      documents: path(flags.documents),
      backupDir: path(flags["backup-dir"]),
      stateDirectory: state,
      namespace: flags.namespace,
      dimension: flags.dimension ?? null,
      reEmbed: flags["re-embed"],
      acceptLossy: flags["accept-lossy"],
      assumeSameModel: flags["assume-same-model"],
      recallLoss: Number(flags["recall-loss"]),
      benchmark: flags.benchmark,
      gpu: flags["gpu-id"] ?? null,
      index: await serviceAddress(context, "index"),
      embedder: config.services.embedder === undefined ? null : await serviceAddress(context, "embedder"),
    });
  }

  override render(result: MigrateResult): string {
    const text = indexMigrateText(result, this.#looksOnly);
    return result.benchmark === undefined ? text : `${text}\n\n${indexBenchText(result.benchmark)}`;
  }

  get #looksOnly(): boolean {
    return this.flags["check-only"] || this.flags["dry-run"];
  }
}
