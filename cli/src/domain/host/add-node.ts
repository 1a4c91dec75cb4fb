import { isMap, parseDocument, type Document } from "yaml";

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
 * gpuctl.yaml with one node more; comments, order and everything else stay. The text must be valid YAML.
 * A node of the same name is an error, whatever it says.
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
  document.setIn([...place, "nodes", name], document.createNode(written, { flow: nodesInOneLine(document, place) }));
  // Long lines of others stay as they are.
  return { text: document.toString({ lineWidth: 0, flowCollectionPadding: true }) };
}

/** Whether the nodes that are there are written as `{ host: … }`; one that stands alone is too. */
function nodesInOneLine(document: Document, place: readonly string[]): boolean {
  const nodes = document.getIn([...place, "nodes"]);
  if (!isMap(nodes)) return true;
  return nodes.items.every(({ value }) => isMap(value) && value.flow === true);
}
