import { resolve } from "node:path";
import * as Flags from "@oclif/core/flags";
import type { InfraExport } from "../../app/infra-export.js";
import { exportText } from "../../app/render/infra-text.js";
import { BaseCommand } from "../../base-command.js";
import { stackFlag } from "../../infra-flags.js";

export default class InfraExportCommand extends BaseCommand<typeof InfraExportCommand> {
  static override summary = "Write a stack's inventory to a file: nodes, addresses, host keys, GPUs; no secrets.";
  static override description = `For machines that deploy and have no Pulumi: an environment with inventory: file PATH reads it.
Without --output it goes to that file, and where there is none, to stdout. An environment with inventory: stack NAME needs no file.`;
  static override examples = [
    "<%= config.bin %> infra export --stack prod --output inventory.json",
    "<%= config.bin %> infra export --environment prod --stack prod",
  ];
  static override flags = {
    stack: stackFlag(),
    output: Flags.string({ char: "o", description: "File to write.", helpValue: "FILE" }),
  };

  async execute(): Promise<InfraExport> {
    const [{ infraExport, inventoryFile }, { infraTarget, stackName }, { createInventories, inventoryWriter }] =
      await Promise.all([
        import("../../app/infra-export.js"),
        import("../../app/infra-stack.js"),
        import("../../wiring/infra.js"),
      ]);
    const request = await this.configRequest();
    const stack = await stackName(request, this.flags.stack);
    const named = this.flags.output === undefined ? await inventoryFile(request) : resolve(this.io.cwd, this.flags.output);
    const output = named === null ? null : { file: named, write: await inventoryWriter(named) };
    const { place } = await infraTarget(request);
    return infraExport(await createInventories(this.toolsRequest()), place, stack, output);
  }

  override render(result: InfraExport): string {
    return exportText(result);
  }
}
