import { z } from "zod";
import { isPlumbing, resourceOf, type ResourceName } from "./resource.js";

const state = z
  .object({
    id: z.string().optional(),
    custom: z.boolean().optional(),
    protect: z.boolean().optional(),
    inputs: z.record(z.string(), z.unknown()).optional(),
  })
  .nullish();

const digest = z.object({
  steps: z
    .array(
      z.object({
        op: z.string(),
        urn: z.string(),
        oldState: state,
        newState: state,
        replaceReasons: z.array(z.string()).nullish(),
        diffReasons: z.array(z.string()).nullish(),
      }),
    )
    .nullish(),
  diagnostics: z.array(z.object({ urn: z.string().optional(), message: z.string(), severity: z.string() })).nullish(),
  changeSummary: z.record(z.string(), z.number()).nullish(),
});

/** One word for what happens to a resource; steps of a replacement are one `replace`. */
export type Operation = "create" | "update" | "replace" | "delete" | "read" | "forget";

export interface Change extends ResourceName {
  op: Operation;
  /** The provider's number of it; null before it exists. */
  id: string | null;
  /** The program says that it must not be deleted. */
  protected: boolean;
  /** Names of the inputs that are the reason. */
  because: readonly string[];
  /** What the program asks for, secrets as "[secret]"; what it is for one that is deleted. */
  inputs: Readonly<Record<string, unknown>>;
}

/** What Pulumi said on the way. */
export interface Diagnostic {
  /** The resource that it is about, or null. */
  about: ResourceName | null;
  severity: "error" | "warning" | "info";
  message: string;
}

export interface Preview {
  changes: readonly Change[];
  /** Resources that stay as they are. */
  same: number;
  diagnostics: readonly Diagnostic[];
}

const operations: Readonly<Record<string, Operation>> = {
  create: "create",
  update: "update",
  replace: "replace",
  "create-replacement": "replace",
  "delete-replaced": "replace",
  delete: "delete",
  read: "read",
  "read-replacement": "read",
  refresh: "read",
  import: "read",
  "import-replacement": "replace",
  discard: "forget",
  "remove-pending-replace": "forget",
};

/** The digest that `pulumi preview --json` prints; null for a text that is none. */
export function parsePreview(text: string): Preview | null {
  const parsed = digest.safeParse(jsonOrNull(text));
  if (!parsed.success) return null;
  const changes = new Map<string, Change>();
  // What stays as it is has no step of its own, but for the stack itself.
  let same = parsed.data.changeSummary?.["same"] ?? 0;
  for (const step of parsed.data.steps ?? []) {
    const about = resourceOf(step.urn);
    const op = operations[step.op];
    if (isPlumbing(about.type)) same -= step.op === "same" ? 1 : 0;
    if (isPlumbing(about.type) || op === undefined) continue;
    const known = changes.get(step.urn);
    if (known?.op === "replace") continue;
    changes.set(step.urn, changeOf(step, about, op));
  }
  const diagnostics = (parsed.data.diagnostics ?? []).map(({ urn, message, severity }) => diagnosticOf(urn, message, severity));
  return { changes: [...changes.values()], same: Math.max(0, same), diagnostics };
}

type Step = NonNullable<z.infer<typeof digest>["steps"]>[number];

function changeOf(step: Step, about: ResourceName, op: Operation): Change {
  const { oldState, newState } = step;
  return {
    ...about,
    op,
    id: oldState?.id ?? null,
    protected: (op === "delete" || op === "replace" ? oldState?.protect : newState?.protect) ?? false,
    because: step.replaceReasons ?? step.diffReasons ?? [],
    inputs: newState?.inputs ?? oldState?.inputs ?? {},
  };
}

/** A diagnostic without colours and without the prefix that repeats its severity. */
export function diagnosticOf(urn: string | undefined, message: string, severity: string): Diagnostic {
  return {
    about: urn === undefined || urn === "" ? null : resourceOf(urn),
    severity: severity === "error" || severity === "warning" ? severity : "info",
    message: plain(message)
      .replace(/^(?:error|warning|info|debug): /, "")
      .trimEnd(),
  };
}

/** Text without the colours of a terminal and without Pulumi's own marks for them. */
export const plain = (text: string): string => text.replaceAll(/\u001b\[[0-9;]*[A-Za-z]/g, "").replaceAll(/<\{%[^%]*%\}>/g, "");

export function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}
