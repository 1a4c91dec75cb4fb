import { createHash } from "node:crypto";
import { labelValue, managedBy, nodeLabel, projectLabel, stackLabel } from "../../cli/src/domain/infra/labels.js";

/** Longest name of a server (it becomes its host name), of a Kubernetes namespace and of a label's value, in characters. */
export const longestName = 63;

export interface StackId {
  /** `gpuctl:project`, such as `shop`. */
  project: string;
  /** Name of the Pulumi stack, such as `prod`. */
  stack: string;
}

/**
 * Name of a thing at the provider: `shop-prod-gpu-1`. Where that would be too long, lose letters, or be the same as that of other parts
 * (a dash inside any but the last part), it ends in eight hex digits of the hash of all parts instead of saying them fully.
 * @returns an RFC 1123 label of at most 63 characters; the same for the same parts, different for different ones
 */
export function resourceName({ project, stack }: StackId, ...more: readonly string[]): string {
  const parts = [project, stack, ...more];
  const plain = parts.map(label).join("-");
  const exact = plain === parts.join("-") && !parts.slice(0, -1).some((part) => part.includes("-"));
  if (exact && /^[a-z]/.test(plain) && plain.length <= longestName) return plain;
  const hash = createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 8);
  const head = `${/^[a-z]/.test(plain) ? "" : "x-"}${plain}`.slice(0, longestName - 9).replace(/-+$/, "");
  return `${head}-${hash}`;
}

/** What `gpuctl infra gc` finds resources by; every resource at a provider carries them. */
export function labels({ project, stack }: StackId, node?: string): Record<string, string> {
  return {
    [managedBy.key]: managedBy.value,
    [projectLabel]: labelValue(project),
    [stackLabel]: labelValue(stack),
    ...(node === undefined ? {} : { [nodeLabel]: labelValue(node) }),
  };
}

function label(part: string): string {
  return part
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, "-")
    .replace(/^-+|-+$/g, "");
}
