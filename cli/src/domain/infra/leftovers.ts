import type { CloudKind, CloudResource } from "../cost/cloud.js";
import { labelValue, projectLabel, stackLabel } from "./labels.js";

/** A stack of this project, and the provider's numbers of what it knows. */
export interface StackIds {
  stack: string;
  /** `hcloud:index/server:Server 4711` for each. */
  known: ReadonlySet<string>;
}

/** What a labelled resource is, seen from the stacks. */
export type Standing =
  /** No stack knows it, and the one that it names is here: it was left behind. */
  | "left-over"
  /** As that, but so young that an update may be about to write it down. */
  | "too-young"
  /** As that, but protected at the provider. */
  | "protected"
  /** The stack that it names is not in this backend; somebody else may have it. */
  | "stack-elsewhere"
  /** The stack that it names is here and knows nothing: one of this name may be in another backend, and know it. */
  | "stack-empty"
  /** Of another project of gpuctl. */
  | "other-project";

export interface Leftover {
  resource: CloudResource;
  /** By its label; null without one. */
  project: string | null;
  stack: string | null;
  standing: Standing;
}

/** Pulumi writes a resource down when its creation has ended, which takes minutes at most. */
const youngMinutes = 15;

/** Types of Pulumi by kind of the API. */
const pulumiTypes: Readonly<Record<CloudKind, string>> = {
  servers: "hcloud:index/server:Server",
  load_balancers: "hcloud:index/loadBalancer:LoadBalancer",
  volumes: "hcloud:index/volume:Volume",
  primary_ips: "hcloud:index/primaryIp:PrimaryIp",
  floating_ips: "hcloud:index/floatingIp:FloatingIp",
  firewalls: "hcloud:index/firewall:Firewall",
  networks: "hcloud:index/network:Network",
  placement_groups: "hcloud:index/placementGroup:PlacementGroup",
  ssh_keys: "hcloud:index/sshKey:SshKey",
};

/** How a stack knows a resource. */
export const knownAs = (type: string, id: string): string => `${type} ${id}`;

/**
 * Resources that carry gpuctl's labels and that no stack knows.
 * @param projects  names of this project, as labels have them
 * @param gone  stacks that the user says are nowhere any more
 */
export function leftovers(
  resources: readonly CloudResource[],
  stacks: readonly StackIds[],
  projects: ReadonlySet<string>,
  gone: ReadonlySet<string>,
  now: Date,
): readonly Leftover[] {
  const known = (resource: CloudResource): boolean =>
    stacks.some((one) => one.known.has(knownAs(pulumiTypes[resource.kind], String(resource.id))));
  return resources
    .filter((resource) => !known(resource))
    .map((resource): Leftover => {
      const project = resource.labels[projectLabel] ?? null;
      const stack = resource.labels[stackLabel] ?? null;
      return { resource, project, stack, standing: standingOf(resource, stacks, { project, stack, projects, gone, now }) };
    });
}

interface Labels {
  project: string | null;
  stack: string | null;
  projects: ReadonlySet<string>;
  gone: ReadonlySet<string>;
  now: Date;
}

function standingOf(resource: CloudResource, stacks: readonly StackIds[], labels: Labels): Standing {
  const { project, stack, projects, gone, now } = labels;
  if (project === null || !projects.has(project)) return "other-project";
  const here = stacks.find((one) => labelValue(one.stack) === stack);
  const sure = stack !== null && gone.has(stack);
  if (!sure && here === undefined) return "stack-elsewhere";
  if (!sure && here?.known.size === 0) return "stack-empty";
  if (now.getTime() - resource.created.getTime() < youngMinutes * 60_000) return "too-young";
  return resource.protected ? "protected" : "left-over";
}
