import { changesType } from "./availability.js";
import type { Change } from "./preview.js";

/** A change that ends or loses something that runs or lies there. */
export interface Loss extends Change {
  /** What becomes of it, as a sentence goes on: `what is on it is lost`. */
  consequence: string;
}

/** What is lost with a resource that is deleted or made anew, by its type. */
const lostWith: readonly (readonly [RegExp, string])[] = [
  [/^hcloud:index\/(?:server|volume|snapshot):/, "what is on it is lost"],
  [/^hcloud:index\/(?:primaryIp|floatingIp):/, "the address goes back to the provider"],
  [/^kubernetes:core\/v1:(?:Namespace|PersistentVolumeClaim):?/, "what is in it is lost"],
  [/^kubernetes:helm\.sh\/v\d:(?:Release|Chart):?/, "what it runs ends"],
];

/**
 * What a command of the program takes away when it is deleted. On a host it is told by what it would run there, and by its name only
 * where nothing of that is known: a box may be called `pool-1`, and its removal as if it were that of an agent.
 */
const takenAway: readonly { type: RegExp; runs?: RegExp; name: RegExp; consequence: string }[] = [
  { type: /:local:/, name: /-node$/, consequence: "the node is taken out of the cluster" },
  { type: /:local:/, name: /-taint$/, consequence: "the mark that keeps other pods off the node is taken away" },
  {
    type: /:remote:/,
    runs: /^GPUCTL_K3S_NODE=/m,
    name: /^pool-.+-removal$/,
    consequence: "the k3s agent there ends, and at once all that runs in its pods; volumes of pods on its disk stay",
  },
  {
    type: /:remote:/,
    runs: /\/run\/gpuctl-removal\//,
    name: /(?<!-vswitch)-removal$/,
    consequence: "what gpuctl made there is taken away: account, units and firewall rules; refused while releases serve there",
  },
  {
    type: /:remote:/,
    runs: /gpuctl-vswitch\.service/,
    name: /-vswitch-removal$/,
    consequence: "the VLAN of its vSwitch goes, and its private address with it",
  },
];

/** Changes of a preview that need the stack's name as confirmation, each with what becomes of it. */
export function losses(changes: readonly Change[]): readonly Loss[] {
  return changes.flatMap((change): Loss[] => {
    const consequence = consequenceOf(change);
    return consequence === null ? [] : [{ ...change, consequence }];
  });
}

function consequenceOf(change: Change): string | null {
  const { op, type, inputs } = change;
  if (changesType(change)) return "it is powered off while its type changes";
  if (op !== "delete" && op !== "replace") return null;
  // A command without one of its own does nothing when it is deleted.
  if (/^command:(?:local|remote):Command$/.test(type) && inputs["delete"] !== undefined) return withCommand(change);
  return lostWith.find(([pattern]) => pattern.test(type))?.[1] ?? null;
}

function withCommand({ type, name, inputs: { stdin } }: Change): string {
  const rules = takenAway.filter((rule) => rule.type.test(type));
  const rule =
    rules.find(({ runs }) => typeof stdin === "string" && runs?.test(stdin)) ?? rules.find((known) => known.name.test(name));
  return rule?.consequence ?? "what it made is taken away";
}
