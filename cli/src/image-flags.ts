import * as Flags from "@oclif/core/flags";
import type { ImageRequest } from "./app/images-build.js";
import { imageDevices, type ImageDevice } from "./domain/images/build-arguments.js";

/** Flags of `images build` and of `images push`, which builds what is missing. */
export const imageFlags = {
  device: Flags.option({ options: imageDevices, multiple: true })({
    description: "Image to take, for CPUs or NVIDIA GPUs (default: those that the environment's services can need).",
  }),
  "build-arg": Flags.string({
    multiple: true,
    helpValue: "NAME[=VALUE]",
    description: "BASE_IMAGE, PIP_INDEX_URL or a proxy, for builds behind a mirror; without a value, from the environment.",
  }),
  secret: Flags.string({
    multiple: true,
    helpValue: "id=ID,src=FILE",
    description: "A pip.conf (id=pip_conf) or a certificate (id=ca) that the build sees and the image does not hold.",
  }),
  sbom: Flags.boolean({
    allowNo: true,
    default: true,
    description: "List beside the image what is in it, where the builder can.",
  }),
};

/** What the flags ask for. */
export function imageRequest(
  flags: { device?: ImageDevice[] | undefined; "build-arg"?: string[] | undefined; secret?: string[] | undefined; sbom: boolean },
  env: ImageRequest["env"],
): ImageRequest {
  const { device: devices = [], "build-arg": buildArgs = [], secret: secrets = [], sbom } = flags;
  return { devices, buildArgs, secrets, sbom, env };
}
