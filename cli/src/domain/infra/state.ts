import { z } from "zod";
import { jsonOrNull } from "./preview.js";
import { isPlumbing, resourceOf, type ResourceName } from "./resource.js";

const exported = z.object({
  deployment: z.object({
    resources: z
      .array(
        z.object({
          urn: z.string(),
          type: z.string(),
          id: z.string().optional(),
          custom: z.boolean().optional(),
          protect: z.boolean().optional(),
          external: z.boolean().optional(),
          outputs: z.record(z.string(), z.unknown()).optional(),
        }),
      )
      .optional(),
  }),
});

export interface KnownResource extends ResourceName {
  /** The provider's number. */
  id: string;
  protected: boolean;
}

/** What a stack knows, without its secrets. */
export interface StackState {
  /** Resources that a provider made for it; components and what it only reads are not among them. */
  resources: readonly KnownResource[];
  /** Outputs as plain data; a secret is the text "[secret]". */
  outputs: Readonly<Record<string, unknown>>;
}

/** What `pulumi stack export` prints; null for a text that is none. */
export function parseState(text: string): StackState | null {
  const parsed = exported.safeParse(jsonOrNull(text));
  if (!parsed.success) return null;
  const { resources = [] } = parsed.data.deployment;
  const stack = resources.find(({ type }) => type === "pulumi:pulumi:Stack");
  return {
    resources: resources.flatMap(({ urn, type, id, custom, protect, external }): KnownResource[] =>
      custom === true && external !== true && id !== undefined && !isPlumbing(type)
        ? [{ ...resourceOf(urn), id, protected: protect ?? false }]
        : [],
    ),
    outputs: Object.fromEntries(Object.entries(stack?.outputs ?? {}).map(([name, value]) => [name, withoutSecrets(value)])),
  };
}

/** The mark under which Pulumi stores what is not a plain value, and the one of its kinds that is a secret. */
const markKey = "4dabf18193072939515e22adb298388d";
const secretMark = "1b47061264138c4ac30d75fd1eb44270";

function withoutSecrets(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutSecrets);
  if (typeof value !== "object" || value === null) return value;
  if ((value as Record<string, unknown>)[markKey] === secretMark) return "[secret]";
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withoutSecrets(inner)]));
}
