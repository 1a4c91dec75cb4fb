import * as Flags from "@oclif/core/flags";
import { outputsText } from "../../app/render/infra-text.js";
import { BaseCommand } from "../../base-command.js";
import { stackFlag } from "../../infra-flags.js";

export default class InfraOutputs extends BaseCommand<typeof InfraOutputs> {
  static override summary = "Show what a stack gives out: its inventory, and whatever else the program exports.";
  static override examples = ["<%= config.bin %> infra outputs --stack prod", "<%= config.bin %> infra outputs --json"];
  static override flags = {
    stack: stackFlag(),
    "show-secrets": Flags.boolean({ description: "Show secrets in the clear; needs the passphrase." }),
  };

  async execute(): Promise<Record<string, unknown>> {
    const [{ infraOutputs }, { infraTarget, stackName }, { createInfra }] = await Promise.all([
      import("../../app/infra-export.js"),
      import("../../app/infra-stack.js"),
      import("../../wiring/infra.js"),
    ]);
    const request = await this.configRequest();
    const stack = await stackName(request, this.flags.stack);
    const tools = await createInfra(await infraTarget(request), this.toolsRequest(), this.io.cwd);
    return infraOutputs(tools, stack, this.flags["show-secrets"]);
  }

  override render(result: Record<string, unknown>): string {
    return outputsText(result);
  }
}
