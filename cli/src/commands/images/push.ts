import type { PushResult } from "../../app/images-push.js";
import { pushText } from "../../app/render/images-text.js";
import { BaseCommand } from "../../base-command.js";
import { imageFlags, imageRequest } from "../../image-flags.js";

export default class ImagesPush extends BaseCommand<typeof ImagesPush> {
  static override summary = "Put the services' image into the environment's registry, and pin its digest in gpuctl.lock.json.";
  static override description = `Builds what is missing. What the registry has is not sent again. Who may push is what docker login says:
gpuctl has no password for it. Commit gpuctl.lock.json: then every machine deploys the same bytes.`;
  static override examples = [
    "<%= config.bin %> images push",
    "<%= config.bin %> images push --environment production --device cuda",
  ];
  static override flags = imageFlags;

  async execute(): Promise<PushResult> {
    const config = await this.loadConfig();
    const [{ imagesPush }, { createPushTools }] = await Promise.all([
      import("../../app/images-push.js"),
      import("../../wiring/images.js"),
    ]);
    return imagesPush(await createPushTools(config, this.toolsRequest()), config, imageRequest(this.flags, this.io.env));
  }

  override render(result: PushResult): string {
    return pushText(result);
  }
}
