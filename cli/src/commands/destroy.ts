import * as Flags from "@oclif/core/flags";
import type { DestroyResult } from "../app/destroy.js";
import { BaseCommand } from "../base-command.js";
import { lockWait, lockWaitFlag } from "../lifecycle-flags.js";

export default class Destroy extends BaseCommand<typeof Destroy> {
  static override summary = "Stop every service of an environment and give its ports back.";
  static override description =
    "Releases, logs, models and the index's data stay: the next deploy starts the current release again. With --models its models leave the hosts, but for those that a container or a release of another environment there needs. Nothing is asked; the environment's name confirms.";
  static override examples = [
    "<%= config.bin %> destroy --confirm local",
    "<%= config.bin %> destroy -e staging --confirm staging --lock-wait 30s",
    "<%= config.bin %> destroy -e staging --confirm staging --models",
  ];
  static override flags = {
    confirm: Flags.string({ description: "Name of the environment, to confirm.", helpValue: "NAME" }),
    models: Flags.boolean({ description: "Remove its models from the hosts too." }),
    "lock-wait": lockWaitFlag(),
  };

  async execute(): Promise<DestroyResult> {
    const { destroy } = await import("../app/destroy.js");
    const { confirm, models } = this.flags;
    return destroy(await this.context(), { confirm, models, lockWait: lockWait(this.flags["lock-wait"]) });
  }

  override render({ environment, stopped, models }: DestroyResult): string {
    const what = stopped.length === 0 ? "nothing ran" : `stopped ${stopped.join(", ")}`;
    const removed =
      models?.removed.map(({ what: model, bytes }) => `Removed ${model} (${(bytes / 2 ** 20).toFixed(1)} MiB)`) ?? [];
    const kept = models?.kept.map((line) => `Kept on ${line}`) ?? [];
    const stays = `Environment ${environment}: ${what}. Releases and data stay; gpuctl deploy starts it again.`;
    return [stays, ...removed, ...kept].join("\n");
  }
}
