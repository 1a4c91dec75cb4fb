import type { BuildResult } from "../../app/images-build.js";
import { buildText } from "../../app/render/images-text.js";
import { BaseCommand } from "../../base-command.js";
import { imageFlags, imageRequest } from "../../image-flags.js";

export default class ImagesBuild extends BaseCommand<typeof ImagesBuild> {
  static override summary = "Build the services' image with the Docker of this machine.";
  static override description = `The tag is a hash of everything that goes into the image (recipe, lock, code, device, base image): an image of the same
contents is not built twice. Mirrors and proxies do not count. The builder is the one that gpuctl images cache setup made,
which can write SBOM and provenance, else the one that your Docker uses.`;
  static override examples = [
    "<%= config.bin %> images build --device cpu",
    "<%= config.bin %> images build --build-arg BASE_IMAGE=mirror.example.net/python:3.13-slim-trixie",
    "<%= config.bin %> images build --secret id=pip_conf,src=pip.conf --build-arg HTTPS_PROXY",
  ];
  static override flags = imageFlags;

  async execute(): Promise<BuildResult> {
    const config = await this.loadConfig();
    const [{ imagesBuild, imagesBuildAndPin }, { createImageTools, createPushTools }, { sendsImages }] = await Promise.all([
      import("../../app/images-build.js"),
      import("../../wiring/images.js"),
      import("../../domain/images/registry.js"),
    ]);
    const request = imageRequest(this.flags, this.io.env);
    if (sendsImages(config)) return imagesBuildAndPin(await createPushTools(config, this.toolsRequest()), config, request);
    return imagesBuild(await createImageTools(this.toolsRequest()), config, request);
  }

  override render(result: BuildResult): string {
    return buildText(result);
  }
}
