import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import type { FetchResult } from "../../app/models-fetch.js";
import { BaseCommand } from "../../base-command.js";

export default class ModelsFetch extends BaseCommand<typeof ModelsFetch> {
  static override summary = "Download models, check their hashes, and pin them in gpuctl.lock.json.";
  static override description = `The one command that downloads: it also makes the Python environment of this gpuctl when that is missing.
What is present and whole is not fetched again; a damaged file is replaced. A deploy never uses the network.`;
  static override examples = [
    "<%= config.bin %> models fetch",
    "<%= config.bin %> models fetch all-MiniLM-L6-v2",
    "<%= config.bin %> models fetch --update",
  ];
  static override strict = false;
  static override args = { name: Args.string({ description: "Names under `models` in gpuctl.yaml; none: all of them." }) };
  static override flags = {
    update: Flags.boolean({ description: "Let gpuctl.lock.json follow gpuctl.yaml to another revision." }),
  };

  async execute(): Promise<FetchResult> {
    const config = await this.loadConfig();
    const [{ modelsFetch }, { createModelTools }] = await Promise.all([
      import("../../app/models-fetch.js"),
      import("../../wiring.js"),
    ]);
    const names = await this.names();
    return modelsFetch(await createModelTools(config, this.toolsRequest()), { names, update: this.flags.update });
  }

  override render({ models, python, lock }: FetchResult): string {
    const lines = models.map(
      ({ name, id, revision, bytes, licence, outcome }) =>
        `${outcome.padEnd(8)}  ${name}  ${id}@${revision}  ${(bytes / 1e6).toFixed(1)} MB  ${licence}`,
    );
    return [...lines, `Python    ${python.path}${python.made ? " (made)" : ""}`, `pinned in ${lock}`].join("\n");
  }

  private async names(): Promise<readonly string[]> {
    const { argv } = await this.parse(ModelsFetch);
    return argv.map(String);
  }
}
