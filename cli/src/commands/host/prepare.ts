import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import type { PrepareResult } from "../../app/host-prepare.js";
import { preparedText } from "../../app/render/host-text.js";
import { BaseCommand } from "../../base-command.js";
import { acceptNewFlag } from "../../lifecycle-flags.js";
import type { ExitCodeName } from "../../domain/errors.js";
import { preparation, preparationFlags } from "../../host-flags.js";

export default class HostPrepare extends BaseCommand<typeof HostPrepare> {
  static override summary = "Make a host ready: Docker, NVIDIA's driver and container toolkit, firewall, deploy user.";
  static override description = `One script does it, step by step; what is right already is left alone, so it can be run at any time, and after any interruption.
A restart that the driver needs is made and waited for, unless releases serve on the host. Exits with 7 when one is needed
and was not made, and with 5 when the host cannot be prepared: then nothing was changed.`;
  static override examples = [
    "<%= config.bin %> host prepare gpu-1 -e production",
    "<%= config.bin %> host prepare gpu-1 --authorized-key ~/.ssh/deploy.pub --deploy-user deploy --no-reboot",
  ];
  static override args = { name: Args.string({ description: "Name of the node.", required: true }) };
  static override flags = {
    ...acceptNewFlag,
    ...preparationFlags,
    confirm: Flags.string({
      description: "Name of the node, to agree to a restart under releases that serve there.",
      helpValue: "NAME",
    }),
  };

  async execute(): Promise<PrepareResult> {
    const [{ prepareHost }, { createHostTools }] = await Promise.all([
      import("../../app/host-prepare.js"),
      import("../../wiring/host.js"),
    ]);
    const asked = preparation(this.flags);
    const tools = await createHostTools(await this.loadConfig(), this.toolsRequest(), this.io.cwd);
    try {
      return await prepareHost(tools, { ...asked, node: this.args.name, mode: "prepare", confirm: this.flags.confirm });
    } finally {
      await tools.close();
    }
  }

  override render(result: PrepareResult): string {
    return preparedText(result);
  }

  override successExit({ state }: PrepareResult): ExitCodeName {
    return state === "prepared" ? "ok" : "changesPending";
  }
}
