import type { HostLayout } from "../../../domain/compose/layout.js";
import type { ComposeNode } from "../../../domain/compose/node.js";
import { Failed } from "../../../domain/errors.js";
import { fingerprintOf } from "../../../domain/fingerprint.js";
import type { ServiceSpec } from "../../../domain/release.js";
import type { Lease } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import { keptFile, placeNode } from "./host-place.js";
import { removeImage, surveyImages, type ImageSource } from "./images.js";
import { companionImages, instancesOf, withoutInstances } from "./node-plan.js";
import type { HostView } from "./observation.js";
import { forgetInstances, sweepRemains } from "./removal.js";

export interface PruningParts {
  commands: HostCommands;
  layout: HostLayout;
  filters: readonly string[];
  imageOf: (spec: ServiceSpec) => ImageSource;
}

type Removed = readonly { what: string; bytes: number }[];

/**
 * Removes ended instances that no kept release names, what still lies there for earlier ones (gates, sockets, orders, secrets), and
 * every image that this environment once brought and that neither a kept release nor a container of anybody needs. Models stay: all
 * environments of a host share their volumes, and a volume does not say whose it is. Throws Failed when Docker does not answer.
 */
export async function pruneNode(
  parts: PruningParts,
  found: { view: HostView; node: ComposeNode },
  keep: readonly ServiceSpec[],
  lease: Lease,
): Promise<Removed> {
  const { commands, layout, filters, imageOf } = parts;
  const { view, node } = found;
  if (view.silent !== null)
    throw new Failed(`Docker on ${commands.node} does not answer`, { because: view.silent, nextSteps: ["gpuctl doctor"] });
  const ended = endedIds(view, node, new Set(keep.map(fingerprintOf)));
  const left = withoutInstances(node, new Set(ended));
  const removed = await forgetInstances(commands, layout, filters, ended, lease);
  if (ended.length > 0) await placeNode(commands, left, [], lease);
  await sweepRemains(commands, layout, keptOn(view, left, new Set(ended)), lease);
  return [...removed, ...(await pruneImages(commands, left, keep.map(imageOf), lease))];
}

function endedIds({ containers }: HostView, node: ComposeNode, wanted: ReadonlySet<string>): readonly string[] {
  const running = new Set(
    containers
      .filter(({ state }) => state !== "exited" && state !== "created" && state !== "dead")
      .map(({ labels }) => labels["dev.gpuctl.instance"]),
  );
  return instancesOf(node)
    .filter(({ id, fingerprint }) => !running.has(id) && !wanted.has(fingerprint))
    .map(({ id }) => id);
}

/** What is in a slot, and what has a container all the same. */
function keptOn(
  { containers }: HostView,
  node: ComposeNode,
  ended: ReadonlySet<string>,
): { ids: readonly string[]; releases: readonly string[] } {
  const there = containers.filter(({ labels }) => !ended.has(labels["dev.gpuctl.instance"] ?? ""));
  const said = (key: string): readonly string[] => there.flatMap(({ labels }) => labels[`dev.gpuctl.${key}`] ?? []);
  const slots = instancesOf(node);
  return {
    ids: [...slots.map(({ id }) => id), ...said("instance")],
    releases: [...slots.map(({ release }) => release), ...said("release")],
  };
}

/** What could not be removed stays listed, so that it is tried again. */
async function pruneImages(
  commands: HostCommands,
  node: ComposeNode,
  wanted: readonly ImageSource[],
  lease: Lease,
): Promise<Removed> {
  const needed = new Set([
    ...wanted.map(({ reference }) => reference),
    ...instancesOf(node).map(({ image }) => image),
    ...companionImages(node),
  ]);
  const { gone, idle } = await surveyImages(
    commands,
    node.images.filter((image) => !needed.has(image)),
  );
  const removed = new Map<string, number>();
  for (const image of idle) {
    const bytes = await removeImage(commands, image, lease);
    if (bytes !== null) removed.set(image, bytes);
  }
  const images = node.images.filter((image) => !gone.has(image) && !removed.has(image));
  if (images.length < node.images.length) await commands.write(lease, keptFile({ ...node, images }));
  return [...removed].map(([image, bytes]) => ({ what: `image ${image}`, bytes }));
}
