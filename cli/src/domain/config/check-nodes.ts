import { serviceNames, type ServiceName } from "../names.js";
import { isMap, keysOf, unknownName } from "./check-names.js";
import { problem, valueAt } from "./issues.js";
import type { Path, Problem, SourceDocument } from "./source.js";

/** Nodes that are named but not declared, nodes where there are none, and a swarm without a manager. */
export function checkNodes(document: SourceDocument, name: string): Problem[] {
  const at: Path = ["environments", name, "nodes"];
  // Which nodes there are is known when the inventory has been read: checkNodeNames.
  if (valueAt(document.value, ["environments", name, "inventory"]) !== undefined) return [];
  const nodes = isMap(valueAt(document.value, at)) ? keysOf(document.value, at) : null;
  const problems = [
    ...checkNodeNames(document, name, nodes),
    ...swarmManager(document, name, nodes),
    ...composeWithoutHosts(document, name, nodes),
  ];
  if (nodes?.length === 0) {
    const hint = "add one, such as gpu-1: { host: gpu-1.example.net }";
    problems.push(problem("empty", `environment ${name} has no node`, at, document, "key", hint));
  }
  return problems;
}

/** Nodes that ingress and services name and that are not among those of the environment; null where nodes cannot be told. */
export function checkNodeNames(document: SourceDocument, name: string, nodes: readonly string[] | null): Problem[] {
  return [
    ...ingressNode(document, name, nodes),
    ...nodesOfServices(document, name, nodes),
    ...indexApart(document, name, nodes),
    ...acmeOnSeveral(document, name, nodes),
  ];
}

/** Without an inventory gpuctl.yaml has to say where the nodes of a compose environment are. */
function composeWithoutHosts(document: SourceDocument, name: string, nodes: readonly string[] | null): Problem[] {
  const at: Path = ["environments", name];
  if (valueAt(document.value, [...at, "target"]) !== "compose") return [];
  if (valueAt(document.value, [...at, "nodes"]) === undefined) {
    const hint = "or inventory: stack NAME, to take them from what Pulumi made";
    return [problem("missing-key", 'missing key "nodes"', [...at, "nodes"], document, "value", hint)];
  }
  return (nodes ?? [])
    .map((node): Path => [...at, "nodes", node])
    .filter((path) => isMap(valueAt(document.value, path)) && valueAt(document.value, [...path, "host"]) === undefined)
    .map((path) => missingHost(document, path));
}

/** A node that says everything but where it is. */
export function missingHost(document: SourceDocument, node: Path, because = ""): Problem {
  const hint = "host: expected a host name or an IP address, without scheme or port";
  return problem("missing-key", `missing key "host"${because}`, [...node, "host"], document, "value", hint);
}

function ingressNode(document: SourceDocument, name: string, nodes: readonly string[] | null): Problem[] {
  const path: Path = ["environments", name, "ingress", "node"];
  const ingress = valueAt(document.value, path);
  if (nodes === null || typeof ingress !== "string" || nodes.includes(ingress)) return [];
  return [unknownName("unknown-node", "node", ingress, nodes, path, document)];
}

function nodesOfServices(document: SourceDocument, name: string, nodes: readonly string[] | null): Problem[] {
  return serviceNames.flatMap((service) => {
    const own: Path = ["environments", name, "services", service, "nodes"];
    const path: Path = valueAt(document.value, own) === undefined ? ["services", service, "nodes"] : own;
    const wanted = valueAt(document.value, path);
    if (!Array.isArray(wanted)) return [];
    if (nodes === null) return withoutNodes(document, name, service, path);
    return wanted.flatMap((node: unknown, position) =>
      typeof node === "string" && !nodes.includes(node)
        ? [unknownName("unknown-node", "node", node, nodes, [...path, position], document, ` in environment ${name}`)]
        : [],
    );
  });
}

function withoutNodes(document: SourceDocument, name: string, service: string, path: Path): Problem[] {
  const target = valueAt(document.value, ["environments", name, "target"]);
  if (target !== "process" && target !== "kubernetes") return [];
  const message = `environment ${name} has no nodes, but ${service} names some`;
  return [problem("unknown-node", message, path, document, "key", "nodes belong to the targets compose and swarm")];
}

function swarmManager(document: SourceDocument, name: string, nodes: readonly string[] | null): Problem[] {
  const at: Path = ["environments", name, "nodes"];
  if (valueAt(document.value, ["environments", name, "target"]) !== "swarm" || nodes === null || nodes.length === 0) return [];
  if (nodes.some((node) => valueAt(document.value, [...at, node, "role"]) === "manager")) return [];
  const message = `swarm environment ${name} has no manager`;
  return [problem("no-manager", message, at, document, "key", "give at least one node role: manager")];
}

/**
 * An index without an embedder beside it asks that of another node, by address and without TLS: a certificate names a domain. Behind an
 * ingress nodes speak plainly; without one TLS ends on the node itself, and the index could ask nobody.
 */
function indexApart(document: SourceDocument, name: string, nodes: readonly string[] | null): Problem[] {
  const at: Path = ["environments", name];
  const own = (key: string): unknown => valueAt(document.value, [...at, key]);
  const mode = valueAt(document.value, [...at, "tls", "mode"]);
  if (nodes === null || own("target") !== "compose" || own("ingress") !== undefined) return [];
  if (mode !== "files" && mode !== "acme") return [];
  const [first, ...others] = runsOn(document, name, "embedder", nodes);
  const apart = runsOn(document, name, "index", nodes).find((node) => ![first, ...others].includes(node));
  if (first === undefined || apart === undefined) return [];
  const message = `the index on ${apart} could not ask the embedder on ${first}, whose port speaks nothing but TLS`;
  const hint = `ingress: { node: ${apart} } ends TLS before the nodes; or run the index beside the embedder: nodes: [${first}]`;
  return [problem("index-apart", message, [...at, "tls"], document, "key", hint)];
}

/** A domain leads to one node as a rule, and an ACME server asks where it leads: the other nodes would never get their certificate. */
function acmeOnSeveral(document: SourceDocument, name: string, nodes: readonly string[] | null): Problem[] {
  const at: Path = ["environments", name];
  const own = (...keys: string[]): unknown => valueAt(document.value, [...at, ...keys]);
  if (nodes === null || own("target") !== "compose" || own("ingress") !== undefined || own("tls", "mode") !== "acme") return [];
  const serving = nodes.filter((node) => serviceNames.some((service) => runsOn(document, name, service, nodes).includes(node)));
  const [first] = serving;
  if (first === undefined || serving.length < 2) return [];
  const message = `${serving.length} nodes would ask for a certificate of one domain, which leads to one of them`;
  const hint = `ingress: { node: ${first} } ends TLS for all of them; or tls: { mode: files, … } with a certificate of your own`;
  return [problem("acme-nodes", message, [...at, "tls"], document, "key", hint)];
}

/** Nodes that run a service, as far as the file says so in a way that can be understood. */
function runsOn(document: SourceDocument, name: string, service: ServiceName, nodes: readonly string[]): readonly string[] {
  const [own, shared] = [["environments", name, "services", service] as Path, ["services", service] as Path];
  const said = (key: string): unknown => valueAt(document.value, [...own, key]) ?? valueAt(document.value, [...shared, key]);
  const present = valueAt(document.value, own) ?? valueAt(document.value, shared);
  if (present === undefined || said("enabled") === false) return [];
  const wanted = said("nodes");
  return Array.isArray(wanted) ? nodes.filter((node) => wanted.includes(node)) : nodes;
}
