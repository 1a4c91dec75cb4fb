import * as Flags from "@oclif/core/flags";
import type { InfraPreview } from "../../app/infra-preview.js";
import { previewText } from "../../app/render/infra-text.js";
import { BaseCommand } from "../../base-command.js";
import type { ExitCodeName } from "../../domain/errors.js";
import { stackFlag } from "../../infra-flags.js";

export default class InfraPreviewCommand extends BaseCommand<typeof InfraPreviewCommand> {
  static override summary = "Say what infra up would make, change and delete, and what of it cannot be had now.";
  static override description = `Runs the pulumi program on PATH. Without a backend of its own (gpuctl.yaml, Pulumi.yaml, pulumi login, PULUMI_BACKEND_URL),
state is kept in files of this machine, and PULUMI_CONFIG_PASSPHRASE_FILE or PULUMI_CONFIG_PASSPHRASE protects its secrets.`;
  static override examples = ["<%= config.bin %> infra preview --stack prod", "<%= config.bin %> infra preview --exit-code"];
  static override flags = {
    stack: stackFlag(),
    "exit-code": Flags.boolean({ description: "Exit with 7 when there is something to do." }),
  };

  async execute(): Promise<InfraPreview> {
    const [{ infraPreview }, { infraTarget, stackName }, { createInfra }] = await Promise.all([
      import("../../app/infra-preview.js"),
      import("../../app/infra-stack.js"),
      import("../../wiring/infra.js"),
    ]);
    const request = await this.configRequest();
    const stack = await stackName(request, this.flags.stack);
    return infraPreview(await createInfra(await infraTarget(request), this.toolsRequest(), this.io.cwd), stack);
  }

  override render(result: InfraPreview): string {
    return previewText(result);
  }

  override successExit(result: InfraPreview): ExitCodeName {
    return this.flags["exit-code"] && result.changes.length > 0 ? "changesPending" : "ok";
  }
}
