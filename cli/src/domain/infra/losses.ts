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
  if (/^command:(?:local|remote):Command$/.test(type) && inputs["delete"] !== undefined)
    return "what gpuctl made there is taken away: account, units, agents and firewall rules; refused while releases serve there";
  return lostWith.find(([pattern]) => pattern.test(type))?.[1] ?? null;
}
