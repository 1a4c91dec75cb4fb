import * as Flags from "@oclif/core/flags";
import type { ConfigView as View } from "../../app/config-view.js";
import { BaseCommand } from "../../base-command.js";

export default class ConfigView extends BaseCommand<typeof ConfigView> {
  static override summary = "Show the effective configuration of an environment.";
  static override description =
    "Precedence: flags, GPUCTL_* variables, gpuctl.yaml, the user file ($XDG_CONFIG_HOME/gpuctl/config.yaml), defaults.";
  static override examples = ["<%= config.bin %> config view", "<%= config.bin %> config view --origin --environment production"];
  static override flags = {
    origin: Flags.boolean({ description: "Show where each value came from." }),
  };

  #table: ((view: View, origin: boolean) => string) | undefined;

  async execute(): Promise<View> {
    const { viewConfig, configTable } = await import("../../app/config-view.js");
    this.#table = configTable;
    await this.warnOfVariables();
    return viewConfig(await this.configRequest());
  }

  override render(view: View): string {
    return this.#table?.(view, this.flags.origin) ?? "";
  }
}
