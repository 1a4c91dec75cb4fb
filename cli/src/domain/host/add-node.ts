import { isMap, isNode, parseDocument, stringify, type YAMLMap } from "yaml";

/** A node as gpuctl.yaml writes it. */
export interface WrittenNode {
  host: string;
  user?: string | undefined;
  port?: number | undefined;
  identityFile?: string | undefined;
}

/** Why a node cannot be written into a file. */
export type CannotAdd = "no-environment" | "no-nodes" | "name-taken";

/**
 * gpuctl.yaml with one node more, below the others and written as they are; every other byte stays. Where an environment has no
 * nodes yet, the file is written anew, with its comments. The text must be valid YAML. A node of the same name is an error.
 */
export function addNode(
  source: string,
  environment: string,
  name: string,
  node: WrittenNode,
): { text: string } | { cannot: CannotAdd } {
  const document = parseDocument(source);
  const place = ["environments", environment];
  if (!isMap(document.getIn(place))) return { cannot: "no-environment" };
  const nodes = document.getIn([...place, "nodes"]);
  if (nodes != null && !isMap(nodes)) return { cannot: "no-nodes" };
  if (document.hasIn([...place, "nodes", name])) return { cannot: "name-taken" };
  const written = Object.fromEntries(Object.entries(node).filter(([, value]) => value !== undefined));
  const inserted = isMap(nodes) ? insertBelow(source, nodes, name, written) : null;
  if (inserted !== null) return { text: inserted };
  if (nodes == null || nodes.items.length === 0) document.setIn([...place, "nodes"], document.createNode({ [name]: written }));
  else document.setIn([...place, "nodes", name], document.createNode(written, { flow: true }));
  // Long lines of others stay as they are.
  return { text: document.toString({ lineWidth: 0 }) };
}

/** The text with the node on lines of its own after the last one; null where nodes do not stand on lines of their own. */
function insertBelow(source: string, nodes: YAMLMap, name: string, written: object): string | null {
  const last = nodes.items.at(-1);
  if (nodes.flow === true || last === undefined || !isNode(last.key) || !isNode(last.value)) return null;
  const start = last.key.range?.[0];
  const end = last.value.range?.[1];
  if (start === undefined || end === undefined) return null;
  const indent = start - (source.lastIndexOf("\n", start - 1) + 1);
  const behind = source.slice(0, end).trimEnd().length;
  const newline = source.indexOf("\n", behind);
  const oneLine = isMap(last.value) && last.value.flow === true;
  const text = oneLine
    ? `${name}: ${stringify(written, { collectionStyle: "flow", lineWidth: 0 })}`
    : stringify({ [name]: written }, { lineWidth: 0 });
  const lines = text.trimEnd().split("\n");
  const added = lines.map((line) => `${" ".repeat(indent)}${line}\n`).join("");
  if (newline === -1) return `${source}\n${added}`;
  return `${source.slice(0, newline + 1)}${added}${source.slice(newline + 1)}`;
}
