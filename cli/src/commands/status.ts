import { Flags } from "@oclif/core";
import type { StatusReport } from "../app/status.js";
import { statusText } from "../app/render/status-text.js";
import { BaseCommand } from "../base-command.js";
import type { ExitCodeName } from "../domain/errors.js";
import { acceptNewFlag, hostsFlag, nodeChoice } from "../lifecycle-flags.js";

export default class Status extends BaseCommand<typeof Status> {
  static override summary = "Say what runs and what is wrong.";
  static override examples = [
    "<%= config.bin %> status",
    "<%= config.bin %> status --hosts gpu-2",
    "<%= config.bin %> status --verbose",
    "<%= config.bin %> status --json",
  ];
  static override flags = {
    ...acceptNewFlag,
    hosts: hostsFlag("Look only at these hosts."),
    verbose: Flags.boolean({ description: "Also ports, firewall, CDI devices, driver packages and the like of each host." }),
  };

  async execute(): Promise<StatusReport> {
    const { status } = await import("../app/status.js");
    return status(await this.context(nodeChoice(this.flags)));
  }

  override render(result: StatusReport): string {
    return statusText(result, this.flags.verbose);
  }

  override successExit(result: StatusReport): ExitCodeName {
    return result.healthy ? "ok" : "failed";
  }
}
