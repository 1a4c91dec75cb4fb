import * as Flags from "@oclif/core/flags";
import type { GcResult } from "../../app/models-gc.js";
import { BaseCommand } from "../../base-command.js";

export default class ModelsGc extends BaseCommand<typeof ModelsGc> {
  static override summary = "Remove stored models that no lock, no kept release and nothing that runs names.";
  static override description = `Without --confirm it only shows what it would remove. Every project of this user counts: their locks, their kept releases,
their instances, and any process that was given a model's directory. Models younger than an hour stay.`;
  static override examples = ["<%= config.bin %> models gc", "<%= config.bin %> models gc --confirm"];
  static override flags = { confirm: Flags.boolean({ description: "Really remove them." }) };

  async execute(): Promise<GcResult> {
    const config = await this.loadConfig();
    const [{ modelsGc }, { createModelTools }] = await Promise.all([import("../../app/models-gc.js"), import("../../wiring.js")]);
    return modelsGc(await createModelTools(config, this.toolsRequest()), { confirm: this.flags.confirm });
  }

  override render({ removed, unused, kept, young, bytes }: GcResult): string {
    const size = (amount: number): string => `${(amount / 1e6).toFixed(1)} MB`;
    const inUse = `${kept.length.toString()} ${kept.length === 1 ? "stored model is" : "stored models are"} in use`;
    const waiting = young === 0 ? "" : `, ${young.toString()} not, but younger than an hour`;
    if (unused.length === 0) return `Nothing to remove: ${inUse}${waiting}.`;
    const lines = unused.map(({ id, revision, directory, bytes: own }) => {
      return `  ${id === null ? `unfinished download ${directory}` : `${id}@${String(revision)}`}  ${size(own)}`;
    });
    const next = removed ? [] : ["Nothing was removed yet: gpuctl models gc --confirm"];
    return [removed ? `Removed (${size(bytes)}):` : `Would remove (${size(bytes)}):`, ...lines, ...next].join("\n");
  }
}
