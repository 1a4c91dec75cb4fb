import type { HostLayout } from "../../../domain/compose/layout.js";
import type { ComposeNode } from "../../../domain/compose/node.js";
import type { Lease } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import { placeNode } from "./host-place.js";
import { removeImage } from "./images.js";
import { instancesOf, withoutInstances } from "./node-plan.js";
import type { HostView } from "./observation.js";
import { forgetInstances, forgetSecrets } from "./removal.js";

export interface PruningParts {
  commands: HostCommands;
  layout: HostLayout;
  filters: readonly string[];
}

/** What kept releases need. */
export interface Wanted {
  fingerprints: ReadonlySet<string>;
  images: ReadonlySet<string>;
}

/**
 * Removes ended instances that no kept release names, and the images that only they used. Models stay: their volumes are shared
 * by all environments of a host.
 */
export async function pruneNode(
  parts: PruningParts,
  found: { view: HostView; node: ComposeNode },
  wanted: Wanted,
  lease: Lease,
): Promise<readonly { what: string; bytes: number }[]> {
  const { view, node } = found;
  const running = new Set(
    view.containers.filter(({ state }) => state !== "exited" && state !== "created" && state !== "dead").map(idOf),
  );
  const ended = instancesOf(node).filter(({ id, fingerprint }) => !running.has(id) && !wanted.fingerprints.has(fingerprint));
  if (ended.length === 0) return [];
  const left = withoutInstances(node, new Set(ended.map(({ id }) => id)));
  const removed = await forgetInstances(
    parts.commands,
    parts.layout,
    parts.filters,
    ended.map(({ id }) => id),
    lease,
  );
  await placeNode(parts.commands, left, [], lease);
  await forgetSecrets(parts.commands, parts.layout, instancesOf(left), lease);
  const used = new Set([...wanted.images, ...instancesOf(left).map(({ image }) => image)]);
  const images: { what: string; bytes: number }[] = [];
  for (const image of new Set(ended.map((each) => each.image).filter((each) => !used.has(each)))) {
    const bytes = await removeImage(parts.commands, image, lease);
    if (bytes !== null) images.push({ what: `image ${image}`, bytes });
  }
  return [...removed, ...images];
}

const idOf = ({ labels }: HostView["containers"][number]): string => labels["dev.gpuctl.instance"] ?? "";
