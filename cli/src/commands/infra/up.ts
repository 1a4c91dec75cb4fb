import * as Flags from "@oclif/core/flags";
import type { InfraUp } from "../../app/infra-up.js";
import { upText } from "../../app/render/infra-text.js";
import { BaseCommand } from "../../base-command.js";
import { stackFlag } from "../../infra-flags.js";

export default class InfraUpCommand extends BaseCommand<typeof InfraUpCommand> {
  static override summary = "Make what the stack's configuration says: networks, hosts, node pools.";
  static override description = `Asks the provider first whether it can place the servers. What ends, powers off or loses something only with --confirm.
Interrupted, Pulumi ends the operations that run and writes its state; the next infra up goes on from there.`;
  static override examples = [
    "<%= config.bin %> infra up --stack prod",
    "<%= config.bin %> infra up --stack prod --confirm prod",
  ];
  static override flags = {
    stack: stackFlag(),
    confirm: Flags.string({
      description: "Name of the stack, to confirm what deletes, replaces or powers off something in use.",
      helpValue: "NAME",
    }),
  };

  async execute(): Promise<InfraUp> {
    const [{ infraUp }, { infraTarget, stackName }, { createInfra }] = await Promise.all([
      import("../../app/infra-up.js"),
      import("../../app/infra-stack.js"),
      import("../../wiring/infra.js"),
    ]);
    const request = await this.configRequest();
    const stack = await stackName(request, this.flags.stack);
    const tools = await createInfra(await infraTarget(request), this.toolsRequest(), this.io.cwd);
    return infraUp(tools, stack, this.flags.confirm);
  }

  override render(result: InfraUp): string {
    return upText(result);
  }
}
