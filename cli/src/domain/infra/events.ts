import { z } from "zod";
import { diagnosticOf, jsonOrNull, type Diagnostic } from "./preview.js";
import { called, isPlumbing, resourceOf } from "./resource.js";

const metadata = z.object({ op: z.string(), urn: z.string(), type: z.string() });
const event = z.object({
  timestamp: z.number(),
  resourcePreEvent: z.object({ metadata }).optional(),
  resOutputsEvent: z.object({ metadata }).optional(),
  resOpFailedEvent: z.object({ metadata }).optional(),
  diagnosticEvent: z
    .object({ urn: z.string().optional(), message: z.string(), severity: z.string(), ephemeral: z.boolean().optional() })
    .optional(),
  summaryEvent: z
    .object({
      durationSeconds: z.number(),
      resourceChanges: z.record(z.string(), z.number()).nullish(),
      maybeCorrupt: z.boolean().optional(),
    })
    .optional(),
});

/** What a change ended with. */
export interface Summary {
  /** How many resources were changed how, such as `{create: 3}`. */
  changes: Readonly<Record<string, number>>;
  seconds: number;
}

/** What is to be told of one event of an update. */
export type Told =
  { kind: "step"; text: string } | { kind: "diagnostic"; diagnostic: Diagnostic } | { kind: "summary"; summary: Summary };

const begins: Readonly<Record<string, string>> = {
  create: "creating",
  update: "changing",
  delete: "deleting",
  "create-replacement": "creating the replacement of",
  "delete-replaced": "deleting what was replaced:",
  read: "reading",
  import: "importing",
};
const ends: Readonly<Record<string, string>> = {
  create: "created",
  update: "changed",
  delete: "deleted",
  "create-replacement": "replaced",
  "delete-replaced": "deleted, replaced before",
  read: "read",
  import: "imported",
};

/** Reads the events of `pulumi up --json` and `pulumi destroy --json`, one line each, and says what people should hear of them. */
export class EventReader {
  readonly #since = new Map<string, number>();

  /** Null for a line that says nothing to people, or is no event. */
  read(line: string): Told | null {
    const parsed = event.safeParse(jsonOrNull(line));
    if (!parsed.success) return null;
    const { timestamp, resourcePreEvent, resOutputsEvent, resOpFailedEvent, diagnosticEvent, summaryEvent } = parsed.data;
    if (resourcePreEvent) return this.#began(resourcePreEvent.metadata, timestamp);
    if (resOutputsEvent) return this.#ended(resOutputsEvent.metadata, timestamp, ends);
    if (resOpFailedEvent) return this.#ended(resOpFailedEvent.metadata, timestamp, failed);
    if (diagnosticEvent) return told(diagnosticEvent);
    if (summaryEvent === undefined) return null;
    return { kind: "summary", summary: { changes: summaryEvent.resourceChanges ?? {}, seconds: summaryEvent.durationSeconds } };
  }

  #began({ op, urn, type }: z.infer<typeof metadata>, at: number): Told | null {
    const doing = isPlumbing(type) ? undefined : begins[op];
    if (doing === undefined) return null;
    this.#since.set(`${op} ${urn}`, at);
    return { kind: "step", text: `${doing} ${called(resourceOf(urn))}` };
  }

  #ended({ op, urn, type }: z.infer<typeof metadata>, at: number, words: Readonly<Record<string, string>>): Told | null {
    const how = isPlumbing(type) ? undefined : words[op];
    const began = this.#since.get(`${op} ${urn}`);
    if (how === undefined || began === undefined) return null;
    const seconds = at - began;
    return { kind: "step", text: `${called(resourceOf(urn))}: ${how}${seconds > 0 ? ` (${seconds} s)` : ""}` };
  }
}

const failed: Readonly<Record<string, string>> = Object.fromEntries(Object.keys(ends).map((op) => [op, "failed"]));

/** The engine's own chatter is not for people: debug lines can hold values, and a plugin from PATH was put there on purpose. */
function told({ urn, message, severity }: { urn?: string | undefined; message: string; severity: string }): Told | null {
  if (severity === "debug") return null;
  const diagnostic = diagnosticOf(urn, message, severity);
  return diagnostic.message === "" || isChatter(diagnostic) ? null : { kind: "diagnostic", diagnostic };
}

/** Warnings that say nothing to act on. */
export const isChatter = ({ severity, message }: Diagnostic): boolean =>
  severity === "warning" && /^using pulumi-(?:resource|language)-\S+ from \$PATH at /.test(message);
