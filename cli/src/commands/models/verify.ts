import * as Args from "@oclif/core/args";
import type { VerifiedModel } from "../../app/models-verify.js";
import { BaseCommand } from "../../base-command.js";

export default class ModelsVerify extends BaseCommand<typeof ModelsVerify> {
  static override summary = "Hash every file of this project's models.";
  static override examples = ["<%= config.bin %> models verify", "<%= config.bin %> models verify all-MiniLM-L6-v2"];
  static override strict = false;
  static override args = { name: Args.string({ description: "Names under `models` in gpuctl.yaml; none: all of them." }) };

  async execute(): Promise<{ verified: readonly VerifiedModel[] }> {
    const config = await this.loadConfig();
    const [{ modelsVerify }, { createModelTools }] = await Promise.all([
      import("../../app/models-verify.js"),
      import("../../wiring.js"),
    ]);
    const { argv } = await this.parse(ModelsVerify);
    return { verified: await modelsVerify(await createModelTools(config, this.toolsRequest()), argv.map(String)) };
  }

  override render({ verified }: { verified: readonly VerifiedModel[] }): string {
    if (verified.length === 0) return "gpuctl.yaml names no models";
    return verified
      .map(({ name, id, revision, files, bytes }) => {
        return `ok  ${name}  ${id}@${revision}  ${files.toString()} files, ${(bytes / 1e6).toFixed(1)} MB`;
      })
      .join("\n");
  }
}
