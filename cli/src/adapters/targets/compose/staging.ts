import type { ServiceSpec } from "../../../domain/release.js";
import type { Progress } from "../../../ports.js";
import type { GpuTrials } from "./gpu-trials.js";
import type { HostCommands } from "./host-commands.js";
import { hasImage, stageImage, type ImageSource } from "./images.js";
import { hasModels, stageVolumes, type ModelDelivery } from "./model-volumes.js";
import type { NodeFetching } from "./node-fetching.js";

export interface HostStaging {
  commands: HostCommands;
  models: ModelDelivery["models"];
  progress: Progress;
  imageOf: (spec: ServiceSpec) => ImageSource;
  companions: readonly ImageSource[];
  /** How nodes fetch models themselves; null where they are sent. */
  fetching: Omit<NodeFetching, "image"> | null;
  trials: GpuTrials;
}

/** Makes one part of a spec present on a host; says what it found. */
export async function stageOnHost(
  { commands, models, progress, imageOf, companions, fetching, trials }: HostStaging,
  spec: ServiceSpec,
  part: "code" | "models",
  signal: AbortSignal,
): Promise<string> {
  const image = imageOf(spec);
  if (part === "models") {
    const own = fetching === null ? null : { ...fetching, image: image.reference };
    return stageVolumes({ commands, models, progress, fetching: own }, spec, signal);
  }
  const said: string[] = [];
  for (const each of [image, ...companions]) said.push(await stageImage(commands, each, progress, signal));
  await trials.afterStaging(spec, signal);
  return said.join("; ");
}

/** Whether the image and the models of a spec are on a host. */
export async function isOnHost(
  { commands, imageOf }: Pick<HostStaging, "commands" | "imageOf">,
  spec: ServiceSpec,
): Promise<boolean> {
  const found = [hasImage(commands, imageOf(spec).reference), hasModels(commands, spec)];
  return (await Promise.all(found)).every(Boolean);
}
