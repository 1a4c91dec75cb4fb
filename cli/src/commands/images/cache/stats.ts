import type { CacheStats } from "../../../app/images-cache.js";
import { cacheStatsText } from "../../../app/render/images-text.js";
import { BaseCommand } from "../../../base-command.js";

export default class ImagesCacheStats extends BaseCommand<typeof ImagesCacheStats> {
  static override summary = "Say how much the build cache holds, and what the last build took from it.";
  static override examples = ["<%= config.bin %> images cache stats", "<%= config.bin %> images cache stats --json"];

  async execute(): Promise<CacheStats> {
    const [{ imagesCacheStats }, { createImageTools }] = await Promise.all([
      import("../../../app/images-cache.js"),
      import("../../../wiring/images.js"),
    ]);
    return imagesCacheStats(await createImageTools(this.toolsRequest()));
  }

  override render(result: CacheStats): string {
    return cacheStatsText(result);
  }
}
