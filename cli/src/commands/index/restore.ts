import * as Flags from "@oclif/core/flags";
import { resolve } from "node:path";
import type { IndexFacts } from "../../app/index-upkeep.js";
import { factsText } from "../../app/render/index-upkeep-text.js";
import { BaseCommand } from "../../base-command.js";
import { lockWait, lockWaitFlag } from "../../lifecycle-flags.js";

export default class IndexRestore extends BaseCommand<typeof IndexRestore> {
  static override summary = "Replace the index by a backup; what was there is moved aside.";
  static override description = `The index stops, the backup is checked and put in place, and the index starts again: with the backup, or, when it is
refused, with what it held before. A backup of another embedding model is refused unless --other-model says otherwise.`;
  static override examples = [
    "<%= config.bin %> index restore --from backups/monday --confirm local",
    "<%= config.bin %> index restore --from index.tar --confirm staging --lock-wait 30s",
  ];
  static override flags = {
    from: Flags.string({ description: "A backup's directory or .tar file.", required: true, helpValue: "PATH" }),
    confirm: Flags.string({ description: "Name of the environment, to confirm.", helpValue: "NAME" }),
    "other-model": Flags.boolean({ description: "Take vectors of another model too." }),
    "lock-wait": lockWaitFlag(),
  };

  async execute(): Promise<IndexFacts> {
    const [{ indexRestore }, { createIndexTools }] = await Promise.all([
      import("../../app/index-upkeep.js"),
      import("../../wiring.js"),
    ]);
    const context = await this.context();
    const place = await createIndexTools(context.config, this.toolsRequest());
    return indexRestore(context, place, {
      from: resolve(this.io.cwd, this.flags.from),
      confirm: this.flags.confirm,
      otherModel: this.flags["other-model"],
      lockWait: lockWait(this.flags["lock-wait"]),
    });
  }

  override render(result: IndexFacts): string {
    return factsText(result);
  }
}
