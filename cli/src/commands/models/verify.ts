import * as Args from "@oclif/core/args";
import type { VerifiedModel } from "../../app/models-verify.js";
import type { Parity } from "../../ports.js";
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
      .flatMap(({ name, id, revision, files, bytes, licence, parity }) => [
        `ok  ${name}  ${id}@${revision}  ${files.toString()} files, ${(bytes / 1e6).toFixed(1)} MB, ${licence}`,
        ...(parity === null ? [] : [`    int8 against float32, measured when fetched: ${parityWords(parity)}`]),
      ])
      .join("\n");
  }
}

/** `mean cosine 0.99934 (least 0.99757), ...` */
function parityWords({ kind, texts, overlap, meanCosine, leastCosine, alone, tau, spread }: Parity): string {
  const figure = (value: number | undefined, digits: number): string => value?.toFixed(digits) ?? "not measured";
  if (kind === "cross-encoder") {
    const moved = figure(spread, 6);
    return `Kendall tau ${figure(tau, 4)}, top-5 overlap ${figure(overlap, 3)}, a batch moves a logit by at most ${moved}; ${texts.toString()} pairs`;
  }
  return (
    `mean cosine ${figure(meanCosine, 5)} (least ${figure(leastCosine, 5)}), top-10 overlap ${figure(overlap, 3)}, ` +
    `a text alone against the same in a batch ${figure(alone, 6)}; ${texts.toString()} texts`
  );
}
