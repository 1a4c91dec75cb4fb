import * as Flags from "@oclif/core/flags";
import type { CacheClear } from "../../../app/images-cache.js";
import { cacheClearText } from "../../../app/render/images-text.js";
import { BaseCommand } from "../../../base-command.js";

export default class ImagesCacheClear extends BaseCommand<typeof ImagesCacheClear> {
  static override summary = "Free the build cache, all of it or what is above a limit.";
  static override description = `With neither --confirm nor --limit it only says what it would free. Images stay. Without a builder of its own (gpuctl images
cache setup) gpuctl builds with that of your Docker, and its cache is that of every other build there.`;
  static override examples = [
    "<%= config.bin %> images cache clear",
    "<%= config.bin %> images cache clear --limit 5GB",
    "<%= config.bin %> images cache clear --confirm",
  ];
  static override flags = {
    confirm: Flags.boolean({ description: "Really free all of it.", exclusive: ["limit"] }),
    limit: Flags.string({ description: "Free what was used longest ago until so much is left.", helpValue: "SIZE" }),
  };

  async execute(): Promise<CacheClear> {
    const [{ imagesCacheClear }, { createImageTools }] = await Promise.all([
      import("../../../app/images-cache.js"),
      import("../../../wiring/images.js"),
    ]);
    const { confirm, limit = null } = this.flags;
    return imagesCacheClear(await createImageTools(this.toolsRequest()), { confirm, limit });
  }

  override render(result: CacheClear): string {
    return cacheClearText(result);
  }
}
