import { z } from "zod";
import { problem } from "../config/issues.js";
import { isMap } from "../config/check-names.js";
import { valueAt } from "../config/issues.js";
import type { Path, Problem, SourceDocument } from "../config/source.js";
import { shortName } from "../config/schema-values.js";

const amount = z
  .number({ error: "expected an amount without currency, such as 212.30" })
  .min(0, { error: "expected an amount of at least 0" });
const rate = z
  .number({ error: "expected how many a second, such as 850" })
  .positive({ error: "expected how many a second, more than 0" });
const date = z
  .string({ error: "expected a date such as 2026-11-21, in quotes or not" })
  .regex(/^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$/, { error: "expected a date such as 2026-11-21" });

const host = z
  .strictObject({
    provider: z.string().min(1).optional().describe("Who sells it."),
    device: z.enum(["gpu", "cpu"]).describe("What it computes on."),
    way: z
      .enum(["robot", "adopted", "existing-cluster"])
      .default("adopted")
      .describe("How one comes to it: a server of Hetzner Robot, any box that SSH reaches, a node of a cluster that exists."),
    monthly: amount.optional().describe("Net, for a month."),
    hourly: amount.optional().describe("Net, for an hour; else the month's price divided by 730."),
    setup: amount.optional().describe("Paid once."),
    hcloud: z
      .strictObject({ type: z.string().min(1), location: z.string().min(1) })
      .optional()
      .describe("A server type of Hetzner Cloud: its price is read from the API."),
    nodes: z
      .array(z.string().regex(/^[a-z][a-z0-9-]*\/[a-z][a-z0-9-]*$/, { error: "expected environment/node, such as prod/gpu-1" }))
      .optional()
      .describe("Nodes that are such a host."),
    rates: z
      .strictObject({ embeddings: rate.optional(), reranks: rate.optional() })
      .optional()
      .describe("What one does in a second, as measured by gpuctl bench."),
    source: z.string({ error: "expected where it stands: an address, an invoice, a measurement" }).min(1),
    date: date.describe("When it was read there."),
  })
  .describe("A kind of host.");

/** prices.yaml: prices that no API gives, kept by the user; each with its source and date. */
export const priceFileSchema = z.strictObject({
  version: z.literal(1, { error: "expected version: 1" }),
  currency: z
    .string({ error: "expected a currency such as EUR" })
    .regex(/^[A-Z]{3}$/, { error: "expected a currency such as EUR" }),
  hosts: z.record(shortName, host),
});

export type PriceFile = z.output<typeof priceFileSchema>;
export type PricedHost = PriceFile["hosts"][string];

/** What one part of the file says about another. */
export function checkPriceFile(document: SourceDocument): Problem[] {
  const hosts = valueAt(document.value, ["hosts"]);
  if (!isMap(hosts)) return [];
  const owner = new Map<string, string>();
  return Object.entries(hosts).flatMap(([name, entry]) => {
    const at: Path = ["hosts", name];
    if (!isMap(entry)) return [];
    return [...priceProblems(document, at, entry), ...nodeProblems(document, at, name, entry, owner)];
  });
}

function priceProblems(document: SourceDocument, at: Path, entry: Record<string, unknown>): Problem[] {
  const own = entry["monthly"] !== undefined || entry["hourly"] !== undefined;
  const hint = "monthly: 212.30, or hourly: 0.30, or hcloud: { type: ccx33, location: fsn1 }";
  if (!own && entry["hcloud"] === undefined)
    return [problem("missing-key", `${String(at[1])} has no price`, at, document, "key", hint)];
  if (own && entry["hcloud"] !== undefined)
    return [
      problem(
        "two-prices",
        "the price of a type of Hetzner Cloud is read from its API",
        [...at, "hcloud"],
        document,
        "key",
        "remove monthly and hourly, or hcloud",
      ),
    ];
  return [];
}

function nodeProblems(
  document: SourceDocument,
  at: Path,
  name: string,
  entry: Record<string, unknown>,
  owner: Map<string, string>,
): Problem[] {
  const nodes = Array.isArray(entry["nodes"]) ? (entry["nodes"] as unknown[]) : [];
  return nodes.flatMap((node, position) => {
    if (typeof node !== "string") return [];
    const other = owner.get(node);
    owner.set(node, name);
    if (other === undefined) return [];
    return [problem("node-twice", `${node} is already a ${other}`, [...at, "nodes", position], document)];
  });
}
