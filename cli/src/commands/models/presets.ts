import { BaseCommand } from "../../base-command.js";
import type { ListedPreset } from "../../app/models-presets.js";

export default class ModelsPresets extends BaseCommand<typeof ModelsPresets> {
  static override summary = "Show the well-known models that gpuctl.yaml may name by preset.";
  static override description = `In gpuctl.yaml: models: { mine: { preset: bge-m3 } }. A preset knows pooling, prompts and limits. It names no commit:
gpuctl models fetch asks the hub for the newest and pins it in gpuctl.lock.json, and only fetch --update moves on from there.`;
  static override examples = ["<%= config.bin %> models presets", "<%= config.bin %> models presets --json"];

  async execute(): Promise<{ presets: readonly ListedPreset[] }> {
    const { modelsPresets } = await import("../../app/models-presets.js");
    return { presets: modelsPresets() };
  }

  override render({ presets }: { presets: readonly ListedPreset[] }): string {
    const rows = [["PRESET", "KIND", "TOKENS", "PROMPTS", "LICENCE", "SOURCE", "NOTE"], ...presets.map(row)];
    const widths = rows[0]?.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0))) ?? [];
    return rows
      .map((cells) =>
        cells
          .map((cell, n) => cell.padEnd(widths[n] ?? 0))
          .join("  ")
          .trimEnd(),
      )
      .join("\n");
  }
}

function row({ name, kind, dimension, maxTokens, prompts, licence, source, note }: ListedPreset): string[] {
  const what = dimension === null ? kind : `${kind} ${dimension.toString()}`;
  return [name, what, maxTokens.toString(), Object.keys(prompts).join(", ") || "-", licence, source, note];
}
