import * as Flags from "@oclif/core/flags";
import type { InfraDestroy } from "../../app/infra-destroy.js";
import { destroyText } from "../../app/render/infra-text.js";
import { BaseCommand } from "../../base-command.js";
import { stackFlag } from "../../infra-flags.js";

export default class InfraDestroyCommand extends BaseCommand<typeof InfraDestroyCommand> {
  static override summary = "Delete what a stack has made; without --confirm, list what would be lost.";
  static override description =
    "Only deleting ends the cost: a server that is switched off is billed all the same. Adopted hosts stay; what gpuctl put on them goes.";
  static override examples = [
    "<%= config.bin %> infra destroy --stack staging",
    "<%= config.bin %> infra destroy --stack staging --confirm staging",
    "<%= config.bin %> infra destroy --stack prod --confirm prod --keep-protected",
  ];
  static override flags = {
    stack: stackFlag(),
    confirm: Flags.string({ description: "Name of the stack, to confirm.", helpValue: "NAME" }),
    "keep-protected": Flags.boolean({ description: "Leave protected volumes and addresses, and what they need." }),
  };

  async execute(): Promise<InfraDestroy> {
    const [{ infraDestroy }, { infraTarget, stackName }, { createInfra }] = await Promise.all([
      import("../../app/infra-destroy.js"),
      import("../../app/infra-stack.js"),
      import("../../wiring/infra.js"),
    ]);
    const request = await this.configRequest();
    const stack = await stackName(request, this.flags.stack);
    const tools = await createInfra(await infraTarget(request), this.toolsRequest(), this.io.cwd);
    return infraDestroy(tools, { stack, confirm: this.flags.confirm, keepProtected: this.flags["keep-protected"] });
  }

  override render(result: InfraDestroy): string {
    return destroyText(result);
  }
}
