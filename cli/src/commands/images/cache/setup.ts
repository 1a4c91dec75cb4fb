import * as Flags from "@oclif/core/flags";
import type { CacheSetup } from "../../../app/images-cache.js";
import { cacheSetupText } from "../../../app/render/images-text.js";
import { BaseCommand } from "../../../base-command.js";
import { ConfigInvalid, UsageError } from "../../../domain/errors.js";
import type { EnvironmentConfig } from "../../../domain/config/resolved.js";

export default class ImagesCacheSetup extends BaseCommand<typeof ImagesCacheSetup> {
  static override summary = "Give gpuctl a BuildKit of its own, with a cache that has a limit.";
  static override description = `Makes the builder gpuctl (buildx, driver docker-container), which images build and push use from then on. It can write SBOM
and provenance, which Docker's own builder usually cannot. Run again, it changes the limit and keeps the cache.
Away again: docker buildx rm gpuctl`;
  static override examples = [
    "<%= config.bin %> images cache setup",
    "<%= config.bin %> images cache setup --limit 50GB --image mirror.example.net/moby/buildkit:buildx-stable-1",
  ];
  static override flags = {
    limit: Flags.string({
      description: "Size that the cache is kept below.",
      helpValue: "SIZE",
      default: "20GB",
    }),
    image: Flags.string({ description: "BuildKit to run, for machines that cannot reach docker.io.", helpValue: "REF" }),
  };

  async execute(): Promise<CacheSetup> {
    const config = await this.#project();
    const [{ imagesCacheSetup }, { createImageTools }] = await Promise.all([
      import("../../../app/images-cache.js"),
      import("../../../wiring/images.js"),
    ]);
    const { limit, image = null } = this.flags;
    return imagesCacheSetup(await createImageTools(this.toolsRequest()), config, { limit, image });
  }

  override render(result: CacheSetup): string {
    return cacheSetupText(result);
  }

  /** Null where there is none: only the registry's name is wanted of it. */
  async #project(): Promise<EnvironmentConfig | null> {
    try {
      return await this.loadConfig();
    } catch (error) {
      if ((error instanceof ConfigInvalid || error instanceof UsageError) && error.data?.["missing"] === true) return null;
      throw error;
    }
  }
}
