import * as Flags from "@oclif/core/flags";
import type { DestroyResult } from "../app/destroy.js";
import { BaseCommand } from "../base-command.js";
import { lockWait, lockWaitFlag } from "../lifecycle-flags.js";

export default class Destroy extends BaseCommand<typeof Destroy> {
  static override summary = "Stop every service of an environment and give its ports back.";
  static override description =
    "Releases, logs and the index's data stay: the next deploy starts the current release again. Nothing is asked; the environment's name confirms.";
  static override examples = [
    "<%= config.bin %> destroy --confirm local",
    "<%= config.bin %> destroy -e staging --confirm staging --lock-wait 30s",
  ];
  static override flags = {
    confirm: Flags.string({ description: "Name of the environment, to confirm.", helpValue: "NAME" }),
    "lock-wait": lockWaitFlag(),
  };

  async execute(): Promise<DestroyResult> {
    const { destroy } = await import("../app/destroy.js");
    return destroy(await this.context(), { confirm: this.flags.confirm, lockWait: lockWait(this.flags["lock-wait"]) });
  }

  override render({ environment, stopped }: DestroyResult): string {
    const what = stopped.length === 0 ? "nothing ran" : `stopped ${stopped.join(", ")}`;
    return `Environment ${environment}: ${what}. Releases and data stay; gpuctl deploy starts it again.`;
  }
}
