import * as Args from "@oclif/core/args";
import type { VerifyResult } from "../../app/host-verify.js";
import { verifiedText } from "../../app/render/host-text.js";
import { BaseCommand } from "../../base-command.js";
import { acceptNewFlag } from "../../lifecycle-flags.js";
import type { ExitCodeName } from "../../domain/errors.js";

export default class HostVerify extends BaseCommand<typeof HostVerify> {
  static override summary = "Compare a host with what its preparation left there.";
  static override description = `Reads the result of the last preparation and looks at driver, GPUs, Docker, CDI, holds and firewall as they are now; changes nothing.
Exits with 5 when something is not as it should be.`;
  static override examples = ["<%= config.bin %> host verify gpu-1 -e production", "<%= config.bin %> host verify gpu-1 --json"];
  static override args = { name: Args.string({ description: "Name of the node.", required: true }) };
  static override flags = { ...acceptNewFlag };

  async execute(): Promise<VerifyResult> {
    const [{ verifyHost }, { createHostTools }] = await Promise.all([
      import("../../app/host-verify.js"),
      import("../../wiring/host.js"),
    ]);
    const tools = await createHostTools(await this.loadConfig(), this.toolsRequest(), this.io.cwd);
    try {
      return await verifyHost(tools, this.args.name);
    } finally {
      await tools.close();
    }
  }

  override render(result: VerifyResult): string {
    return verifiedText(result);
  }

  override successExit({ findings }: VerifyResult): ExitCodeName {
    return findings.some(({ level }) => level === "blocker") ? "preflightRefused" : "ok";
  }
}
