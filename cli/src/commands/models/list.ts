import type { ListedModel, ModelList } from "../../app/models-list.js";
import { BaseCommand } from "../../base-command.js";

export default class ModelsList extends BaseCommand<typeof ModelsList> {
  static override summary = "Show the models of this project and what else is in the model store.";
  static override examples = ["<%= config.bin %> models list", "<%= config.bin %> models list --json"];

  async execute(): Promise<ModelList> {
    const config = await this.loadConfig();
    const [{ modelsList }, { createModelTools }] = await Promise.all([
      import("../../app/models-list.js"),
      import("../../wiring.js"),
    ]);
    return modelsList(await createModelTools(config, this.toolsRequest()));
  }

  override render({ models, missing }: ModelList): string {
    const rows = [["NAME", "MODEL", "REVISION", "KIND", "DTYPE", "SIZE", "LICENCE", "PROBES"], ...models.map(row)];
    const widths = rows[0]?.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0))) ?? [];
    const table = rows.map((cells) =>
      cells
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
    const absent = missing.map(({ name, because, nextSteps }) => `${name}: ${because} (${nextSteps.join("; ")})`);
    return [...(models.length === 0 ? ["the model store is empty"] : table), ...absent].join("\n");
  }
}

function row({ name, id, revision, kind, dimension, dtype, bytes, licence, probes }: ListedModel): string[] {
  const what = dimension === null ? kind : `${kind} ${dimension.toString()}`;
  return [name ?? "-", id, revision, what, dtype, `${(bytes / 1e6).toFixed(1)} MB`, licence, probes];
}
