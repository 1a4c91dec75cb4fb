import type { Inventory, InventoryNode } from "../inventory.js";
import { checkNodeNames, missingHost } from "./check-nodes.js";
import { valueAt, problem } from "./issues.js";
import type { Traced } from "./layers.js";
import type { ComposeNodeSettings, EnvironmentSettings, InventorySource, WrittenEnvironment } from "./schema-targets.js";
import type { Path, Problem, SourceDocument } from "./source.js";

/** An inventory that was read. */
export interface KnownInventory {
  /** As gpuctl.yaml writes it: `stack prod`. */
  source: string;
  value: Inventory;
}

/** Where an environment takes its inventory from; null for one that has none. */
export const inventoryOf = (own: WrittenEnvironment): InventorySource | null =>
  own.target === "compose" ? (own.inventory ?? null) : null;

/** `stack prod`, `file inventory.json`: as gpuctl.yaml writes it. */
export const sourceText = (source: InventorySource): string =>
  source.kind === "stack" ? `stack ${source.stack}` : `file ${source.path}`;

/**
 * An environment with its nodes: those of the inventory, in its order, then those that only gpuctl.yaml has. What gpuctl.yaml says of
 * a node wins; the keys of a host always come from the inventory.
 */
export function withInventory(own: WrittenEnvironment, inventory: KnownInventory | null): EnvironmentSettings {
  if (own.target !== "compose") return own;
  const { inventory: _source, nodes: written = {}, ...rest } = own;
  const made = inventory?.value.nodes ?? {};
  const names = [...new Set([...Object.keys(made), ...Object.keys(written)])];
  const nodes = names.flatMap((name): [string, ComposeNodeSettings][] => {
    const { host, ...said } = written[name] ?? {};
    const known = inventory === null ? undefined : made[name];
    const base = known === undefined || inventory === null ? {} : fromInventory(known, inventory, own.bind === undefined);
    const address = host ?? known?.host;
    return address === undefined ? [] : [[name, { ...base, ...said, host: address }]];
  });
  const allow = own.allow ?? (inventory === null ? [] : networksOf(inventory.value));
  return { ...rest, ...(own.allow === undefined && allow.length === 0 ? {} : { allow }), nodes: Object.fromEntries(nodes) };
}

function fromInventory(
  node: InventoryNode,
  { source, value }: KnownInventory,
  bindToPrivate: boolean,
): Omit<ComposeNodeSettings, "host"> {
  return {
    user: node.user,
    port: node.port,
    ...(bindToPrivate && node.privateAddress !== null ? { bind: node.privateAddress } : {}),
    hostKeys: node.hostKeys,
    pinnedBy: source,
    gpusPromised: node.gpus,
    portsAdmitted: value.servicePorts,
  };
}

/** Networks of the app and the nodes themselves, which ask one another; none where the inventory names no app. */
function networksOf({ allow, nodes }: Inventory): string[] {
  if (allow.length === 0) return [];
  const own = Object.values(nodes).flatMap(({ privateAddress }) => (privateAddress === null ? [] : [privateAddress]));
  return [...new Set([...allow, ...own.filter((address) => /^[0-9a-fA-F.:]+$/.test(address))])];
}

/** What gpuctl.yaml says about nodes that the inventory does not have, and an inventory without any. */
export function inventoryProblems(document: SourceDocument, environment: string, inventory: KnownInventory): Problem[] {
  const at: Path = ["environments", environment];
  const made = Object.keys(inventory.value.nodes);
  const written = Object.keys(valueAt(document.value, [...at, "nodes"]) ?? {});
  const lost = written
    .filter((name) => !made.includes(name) && valueAt(document.value, [...at, "nodes", name, "host"]) === undefined)
    .map((name) =>
      missingHost(
        document,
        [...at, "nodes", name],
        `: ${inventory.source} has no node ${name}, only ${made.join(", ") || "none"}`,
      ),
    );
  const all = [...new Set([...made, ...written])];
  if (all.length > 0) return [...lost, ...checkNodeNames(document, environment, all)];
  const hint = "gpuctl infra preview shows what the stack would make";
  return [problem("empty", `${inventory.source} has no node`, [...at, "inventory"], document, "value", hint)];
}

/** The values of nodes that come from the inventory, for `config view`. */
export function inventoryValues(settings: EnvironmentSettings, document: SourceDocument, environment: string): Traced[] {
  if (settings.target !== "compose") return [];
  return Object.entries(settings.nodes).flatMap(([name, node]) => {
    const { pinnedBy, hostKeys = [], gpusPromised, portsAdmitted = [], labels: _labels, ...plain } = node;
    if (pinnedBy === undefined) return [];
    const lists = { hostKeys, portsAdmitted, ...(gpusPromised === undefined ? {} : { gpusPromised }) };
    const texts = Object.entries(lists).map(([key, value]): [string, string] => [key, JSON.stringify(value)]);
    const values = { ...plain, ...Object.fromEntries(texts) };
    const own: Path = ["environments", environment, "nodes", name];
    return Object.entries(values).flatMap(([key, value]): Traced[] =>
      value === undefined || valueAt(document.value, [...own, key]) !== undefined
        ? []
        : [{ path: `nodes.${name}.${key}`, value, origin: { kind: "inventory", source: pinnedBy } }],
    );
  });
}
