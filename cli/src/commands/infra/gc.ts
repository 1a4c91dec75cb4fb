import * as Flags from "@oclif/core/flags";
import type { GcResult } from "../../app/infra-gc.js";
import { gcText } from "../../app/render/infra-text.js";
import { BaseCommand } from "../../base-command.js";

export default class InfraGc extends BaseCommand<typeof InfraGc> {
  static override summary =
    "List what carries gpuctl's labels at the provider and no stack knows, with its cost; delete it when confirmed.";
  static override description = `Asks every stack of the Pulumi project in this backend. What names a stack that is not among them, or that is
empty, may be somebody else's: it is listed, and deleted only when --gone names that stack. What is protected or was made in the last 15 minutes stays.`;
  static override examples = [
    "<%= config.bin %> infra gc",
    "<%= config.bin %> infra gc --confirm shop",
    "<%= config.bin %> infra gc --gone old-staging --confirm shop",
  ];
  static override flags = {
    confirm: Flags.string({ description: "Name of the project: delete what was left behind.", helpValue: "PROJECT" }),
    gone: Flags.string({
      description: "A stack that exists nowhere any more; may be given several times.",
      multiple: true,
      default: [],
      helpValue: "STACK",
    }),
  };

  async execute(): Promise<GcResult> {
    const [{ infraGc }, { infraTarget, requireHcloud }, { createInfra }] = await Promise.all([
      import("../../app/infra-gc.js"),
      import("../../app/infra-stack.js"),
      import("../../wiring/infra.js"),
    ]);
    const target = await infraTarget(await this.configRequest());
    const tools = await createInfra(target, this.toolsRequest(), this.io.cwd);
    const { confirm, gone } = this.flags;
    return infraGc({ ...tools, hcloud: requireHcloud(tools) }, { project: target.project, confirm, gone });
  }

  override render(result: GcResult): string {
    return gcText(result);
  }
}
