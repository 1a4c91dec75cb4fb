import * as Flags from "@oclif/core/flags";
import type { AuditReport } from "../app/audit.js";
import { auditText } from "../app/render/history-text.js";
import { BaseCommand } from "../base-command.js";

export default class Audit extends BaseCommand<typeof Audit> {
  static override summary = "List the last actions on the environment.";
  static override examples = ["<%= config.bin %> audit", "<%= config.bin %> audit --last 20 --json"];
  static override flags = {
    last: Flags.integer({ description: "How many actions.", default: 50, min: 1, helpValue: "N" }),
  };

  async execute(): Promise<AuditReport> {
    const { audit } = await import("../app/audit.js");
    return audit(await this.context(), { last: this.flags.last });
  }

  override render(result: AuditReport): string {
    return auditText(result);
  }
}
