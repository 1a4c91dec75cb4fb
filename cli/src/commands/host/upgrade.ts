import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import type { PrepareResult } from "../../app/host-prepare.js";
import { preparedText } from "../../app/render/host-text.js";
import { BaseCommand } from "../../base-command.js";
import { acceptNewFlag } from "../../lifecycle-flags.js";
import type { ExitCodeName } from "../../domain/errors.js";
import { preparation, preparationFlags } from "../../host-flags.js";

export default class HostUpgrade extends BaseCommand<typeof HostUpgrade> {
  static override summary = "Move driver, modules and kernel of a host as one set, and restart it.";
  static override description = `Prepared hosts hold these packages, so that no upgrade replaces one of them alone; this moves all, restarts the host, waits for it and
verifies it. Refused while releases serve there, unless --confirm names the node.`;
  static override examples = [
    "<%= config.bin %> host upgrade gpu-1 -e production",
    "<%= config.bin %> host upgrade gpu-1 --confirm gpu-1",
  ];
  static override args = { name: Args.string({ description: "Name of the node.", required: true }) };
  static override flags = {
    ...acceptNewFlag,
    ...preparationFlags,
    confirm: Flags.string({
      description: "Name of the node, to agree to what ends the releases that serve there.",
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
      return await prepareHost(tools, { ...asked, node: this.args.name, mode: "upgrade", confirm: this.flags.confirm });
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
