import { Failed } from "../../../domain/errors.js";
import { serviceNames, type InstanceId, type ServiceName } from "../../../domain/names.js";
import type { MiB } from "../../../domain/units.js";
import type { ComposeNode, HostInstance, NodeService } from "../../../domain/compose/node.js";
import type { NodeSettings } from "../../../domain/compose/node-settings.js";
import { parseJson } from "../../../domain/preflight/json-value.js";

/**
 * What compose.yaml on the host was rendered from: `node.json` beside it. The instances are only there, because a release record says
 * what a service is and not which places of this host are taken.
 */
export interface KeptNode {
  /** As it was found first: a kernel that counts some pages differently must not make every container look changed. */
  hostMemory: MiB;
  services: readonly NodeService[];
  /** As in the node: what of it nobody needs any more is found again when the releases that named it are long gone. */
  images: readonly string[];
}

export const instancesOf = ({ services }: Pick<KeptNode, "services">): readonly HostInstance[] =>
  services.flatMap(({ instances }) => instances);

/** The node with the settings of today and the instances that are kept; a service that is no longer configured stays as it was until it is empty. */
export function composeNode(settings: NodeSettings, kept: KeptNode): ComposeNode {
  const configured = settings.services.map((service) => ({ ...service, instances: keptOf(kept, service.service) }));
  const names = new Set(configured.map(({ service }) => service));
  const dropped = kept.services.filter(({ service, instances }) => !names.has(service) && instances.length > 0);
  const images = [...new Set([...kept.images, ...companionImages(settings)])];
  // Always in one order: in another one the proxy's ports would look changed.
  const services = serviceNames.flatMap((name) => [...configured, ...dropped].filter(({ service }) => service === name));
  return { ...settings, services, hostMemory: kept.hostMemory, images };
}

/** Images of what stands beside the instances. */
export const companionImages = ({ proxyImage, redis }: Pick<ComposeNode, "proxyImage" | "redis">): readonly string[] =>
  redis === null ? [proxyImage] : [proxyImage, redis.image];

const keptOf = ({ services }: KeptNode, service: ServiceName): readonly HostInstance[] =>
  services.find((each) => each.service === service)?.instances ?? [];

/** The same node with an instance in its place, in the place of whoever was there. */
export function withInstance(node: ComposeNode, instance: HostInstance): ComposeNode {
  const services = node.services.map((each) =>
    each.service === instance.service
      ? { ...each, instances: [...each.instances.filter(({ slot }) => slot !== instance.slot), instance] }
      : each,
  );
  return { ...node, services, images: [...new Set([...node.images, instance.image])] };
}

export function withoutInstances(node: ComposeNode, ids: ReadonlySet<InstanceId>): ComposeNode {
  const services = node.services.map((each) => ({ ...each, instances: each.instances.filter(({ id }) => !ids.has(id)) }));
  return { ...node, services };
}

export const writeKept = ({ hostMemory, services, images }: ComposeNode): string =>
  `${JSON.stringify({ schemaVersion: 1, hostMemory, services, images } satisfies KeptNode & { schemaVersion: 1 }, null, 2)}\n`;

/**
 * Throws Failed for a file that gpuctl did not write: what runs on the host must not be guessed. One that says nothing of images is
 * older than that: then those of its instances are known.
 */
export function readKept(text: string, node: string, path: string): KeptNode {
  const parsed = parseJson(text) as (Partial<KeptNode> & { schemaVersion?: unknown }) | undefined;
  if (parsed?.schemaVersion === 1 && typeof parsed.hostMemory === "number" && Array.isArray(parsed.services)) {
    const { hostMemory, services } = parsed;
    const images = parsed.images ?? [...new Set(instancesOf({ services }).map(({ image }) => image))];
    return { hostMemory, services, images };
  }
  throw new Failed(`${path} on ${node} cannot be understood`, {
    because: parsed === undefined ? "it is not JSON" : "it is of another version of gpuctl, or was edited",
    nextSteps: [`ls -la ${path}   # on ${node}`, `gpuctl destroy, then gpuctl deploy, when nobody knows what it was`],
    data: { node, path },
  });
}
