import { cloudKindName } from "../../domain/cost/cloud.js";
import type { Standing } from "../../domain/infra/leftovers.js";
import { losses } from "../../domain/infra/losses.js";
import type { Change, Operation } from "../../domain/infra/preview.js";
import { called } from "../../domain/infra/resource.js";
import type { InfraDestroy } from "../infra-destroy.js";
import type { InfraExport } from "../infra-export.js";
import type { GcResult, GcRow } from "../infra-gc.js";
import type { InfraPreview } from "../infra-preview.js";
import type { InfraUp } from "../infra-up.js";
import { amount } from "./cost-text.js";
import { blocks, section, table } from "./table.js";

const signs: Readonly<Record<Operation, string>> = {
  create: "+ ",
  update: "~ ",
  replace: "-+",
  delete: "- ",
  read: "> ",
  forget: "x ",
};

export function previewText({ stack, state, changes, same, asked, unavailable }: InfraPreview): string {
  const head = `Stack ${stack}, state in ${state}: ${counted(changes)}${same > 0 ? `, ${same} as they are` : ""}.`;
  const placed = asked && unavailable.length === 0 ? "The provider can place every server now." : "";
  const missing = unavailable.map(({ server, because, alternatives }) =>
    [`${server}: ${because}`, ...(alternatives.length === 0 ? [] : [`instead: ${alternatives.join(", ")}`])].join("; "),
  );
  const confirm = losses(changes).length === 0 ? "" : ` --confirm ${stack}`;
  const next = `gpuctl infra up --stack ${stack}${confirm}${changes.length === 0 ? "   # outputs and inventory are written again" : ""}`;
  return blocks(head, changes.map(changeLine).join("\n"), placed, section("Cannot be had now:", missing), next);
}

function changeLine(change: Change): string {
  const reason = change.because.length === 0 ? "" : `   because of ${change.because.join(", ")}`;
  return `${signs[change.op]} ${called(change)}${reason}${change.protected && change.op !== "create" ? "   protected" : ""}`;
}

const verbs: Readonly<Record<Operation, string>> = {
  create: "to make",
  update: "to change",
  replace: "to replace",
  delete: "to delete",
  read: "to read",
  forget: "to forget",
};

function counted(changes: readonly Change[]): string {
  if (changes.length === 0) return "no resource to change";
  const operations = Object.keys(verbs) as Operation[];
  return operations
    .map((op) => [changes.filter((change) => change.op === op).length, verbs[op]] as const)
    .filter(([count]) => count > 0)
    .map(([count, verb]) => `${count} ${verb}`)
    .join(", ");
}

export function upText({ stack, state, changes, seconds }: InfraUp): string {
  const { same: _same, ...done } = changes;
  const list = Object.entries(done).map(([op, count]) => `${count} ${op}`);
  if (list.length === 0) return `Stack ${stack}: no resource to change; outputs and inventory are as the configuration says.`;
  return `Stack ${stack}: ${list.join(", ")}, in ${seconds} s. State in ${state}.`;
}

export function destroyText({ stack, deleted, seconds, kept }: InfraDestroy): string {
  const head =
    deleted.length === 0 ? `Stack ${stack}: nothing to delete.` : `Stack ${stack}: ${deleted.length} deleted, in ${seconds} s.`;
  return kept.length === 0 ? head : `${head} Kept, and still billed: ${kept.join(", ")}.`;
}

export const outputsText = (outputs: Readonly<Record<string, unknown>>): string =>
  Object.entries(outputs)
    .map(([name, value]) => `${name}: ${typeof value === "string" ? value : JSON.stringify(value, null, 2)}`)
    .join("\n");

export function exportText({ stack, inventory, file }: InfraExport): string {
  if (file === null) return JSON.stringify(inventory, null, 2);
  const nodes = Object.keys(inventory.nodes);
  return `${file}: the inventory of the stack ${stack}, ${nodes.length === 1 ? "1 node" : `${nodes.length} nodes`}${nodes.length > 0 ? ` (${nodes.join(", ")})` : ""}.`;
}

const standings: Readonly<Record<Standing, string>> = {
  "left-over": "left behind",
  "too-young": "made in the last 15 minutes; an infra up may be about to write it down",
  protected: "left behind, and protected: take the protection off in the console first",
  "stack-elsewhere": "its stack is not in this backend",
  "stack-empty": "its stack is empty here, and may be in another backend too: --gone NAME when it is not",
  "other-project": "of another project",
};

export function gcText(result: GcResult): string {
  const { project, stacks, currency, asOf, rows, monthly } = result;
  const asked = `Project ${project}; stacks asked: ${stacks.join(", ") || "none"}.`;
  if (rows.length === 0) return `${asked} Every resource with gpuctl's labels is known to one of them.`;
  const header = ["", "RESOURCE", "ID", "STACK", `${currency} A MONTH`, ""];
  const body = rows.map((row) => [
    mark(row),
    resourceName(row),
    String(row.resource.id),
    row.stack ?? "-",
    price(row),
    what(row),
  ]);
  const left = rows.filter(({ standing, outcome }) => standing === "left-over" && outcome !== "deleted").length;
  const sum = left === 0 ? "" : `Left behind: ${left}, ${amount(monthly)} ${currency} a month, net, by the prices of ${asOf}.`;
  const next = left > 0 && rows.every(({ outcome }) => outcome === "listed") ? `gpuctl infra gc --confirm ${project}` : "";
  return blocks(asked, table(header, body), sum, next);
}

const resourceName = ({ resource }: GcRow): string => `${cloudKindName(resource.kind)} ${resource.name}`;
const price = (row: GcRow): string => (row.price === null ? "unknown" : amount(row.price.monthly));
const mark = ({ outcome }: GcRow): string => (outcome === "listed" ? "" : outcome);
const what = ({ standing, because }: GcRow): string => because ?? standings[standing];
