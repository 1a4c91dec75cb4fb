import { inOrder } from "../fingerprint.js";
import { serviceNames, type ServiceName } from "../names.js";
import { caddyfile, directive, remark, withBlock, type Directive, type Line } from "./caddyfile.js";
import {
  adminSocket,
  directoryCaFile,
  inside,
  insidePort,
  internalPort,
  plainPort,
  proxyMetricsPort,
  tlsPort,
} from "./inside.js";
import type { ComposeNode, NodeIngress, NodeService } from "./node.js";
import { limitsOf, onlyFrom, orNobody, routeTo, snippets, upstreamsOf } from "./proxy-route.js";

/** Names of the listeners that ask an instance for its gate: a switch is complete when each of them has seen it. */
export function checkersOf(node: ComposeNode, service: ServiceName): readonly string[] {
  const runs = node.services.some((each) => each.service === service);
  return runs ? [`${service}-public`, ...(needsInternal(node, service) ? [`${service}-internal`] : [])] : [];
}

/** Whether other containers of this node reach the service through the proxy. */
function needsInternal(node: ComposeNode, service: ServiceName): boolean {
  const indexAsks = service === "embedder" && node.services.some((each) => each.service === "index");
  return indexAsks || node.ingress !== null;
}

/**
 * Configuration of a node's proxy. It names both slots of every service and the CPU instance once and for all, so a switch
 * never touches it: it changes with ports, TLS, the allow-list and the services of a node, and with nothing else.
 *
 * A Caddyfile and not JSON: a person who is woken reads this one, the image's own default is one, and what JSON could say
 * beyond it is not needed. Words are checked (`word`), so a value of gpuctl.yaml cannot become syntax.
 */
export function renderProxyCaddyfile(node: ComposeNode): string {
  const services = serviceNames.flatMap((name) => node.services.filter(({ service }) => service === name));
  const tls = node.ingress === null && node.ingressAddress === null ? node.tls : ({ mode: "off" } as const);
  const own: ComposeNode = { ...node, tls };
  return caddyfile([
    ...title(node, "proxy"),
    globalOptions(own, []),
    ...snippets(),
    ...services.flatMap((service) => serviceSites(own, service)),
    remark("For Prometheus, in the project's network only."),
    withBlock([`http://:${proxyMetricsPort}`], [directive("metrics", "/metrics")]),
  ]);
}

const title = (node: ComposeNode, what: string): readonly Line[] => [
  remark(`The ${what} of environment ${node.environment} of project ${node.project} on node ${node.node}. Written by gpuctl.`),
  remark("Traffic is not moved here but by the files in gates/; README.txt says how."),
];

/** @param ports  options that say which ports stand for 80 and 443 */
function globalOptions(node: ComposeNode, ports: readonly Line[]): Directive {
  const trusted = node.ingressAddress === null ? [] : [directive("trusted_proxies", "static", node.ingressAddress)];
  return withBlock(
    [],
    [
      remark("Asked over this socket only: requests in flight, metrics."),
      directive("admin", `unix/${inside.proxyRun}/${adminSocket}`),
      directive("persist_config", "off"),
      ...encryption(node),
      ...ports,
      directive("grace_period", "30s"),
      directive("metrics"),
      remark("A closed gate is no news, and there is no access log unless a site asks for one with `log`."),
      withBlock(["log", "default"], [directive("level", "WARN")]),
      withBlock(
        ["servers"],
        [
          directive("protocols", ...(node.tls.mode === "off" ? ["h1"] : ["h1", "h2"])),
          withBlock(["timeouts"], [directive("read_header", "30s"), directive("idle", "3m")]),
          ...trusted,
        ],
      ),
    ],
  );
}

function encryption({ tls }: ComposeNode): readonly Line[] {
  if (tls.mode !== "acme") return [directive("auto_https", "off")];
  return [
    directive("auto_https", "disable_redirects"),
    directive("http_port", String(plainPort)),
    ...(tls.email === null ? [] : [directive("email", tls.email)]),
    ...(tls.directory === null ? [] : [directive("acme_ca", tls.directory)]),
    ...(tls.directoryCa ? [directive("acme_ca_root", `${inside.proxyConfig}/${directoryCaFile}`)] : []),
  ];
}

function serviceSites(node: ComposeNode, service: NodeService): readonly Line[] {
  const { service: name } = service;
  const limits = limitsOf(service.instances);
  const upstreams = upstreamsOf(service);
  const allowed = allowedNetworks(node, name);
  const route = (checker: string): readonly Line[] => [...routeTo(upstreams, "first", checker, limits), orNobody];
  const publicSite = siteOf(node, insidePort[name], [...onlyFrom(allowed), ...route(`${name}-public`)]);
  const internal = needsInternal(node, name)
    ? [
        remark(`The ${name} for the other containers of this node.`),
        withBlock([`http://:${internalPort[name]}`], route(`${name}-internal`)),
      ]
    : [];
  return [remark(`The ${name} for its clients: published as port ${service.port}.`), ...publicSite, ...internal];
}

/**
 * With an allow-list the ingress needs a place in it: what comes from there was let in by its own. So does another node's index, which
 * asks the embedder.
 */
function allowedNetworks({ allow, ingressAddress, askedFrom }: ComposeNode, service: ServiceName): readonly string[] {
  if (allow.length === 0) return [];
  const ingress = ingressAddress === null ? [] : [ingressAddress];
  return [...new Set([...allow, ...ingress, ...(service === "embedder" ? askedFrom : [])])];
}

/** A public site on a port of the container, with what the environment says about encryption. */
function siteOf({ tls }: ComposeNode, port: number, lines: readonly Line[]): readonly Line[] {
  switch (tls.mode) {
    case "off":
      return [withBlock([`http://:${port}`], lines)];
    case "files":
      return [withBlock([`https://:${port}`], [certificate, ...lines])];
    case "acme":
      return [
        withBlock([`https://${tls.domain}:${port}`], lines),
        // Without this, a request for another name would get an empty 200.
        withBlock([`https://:${port}`], [directive("respond", "This address serves another name.", "421")]),
      ];
  }
}

const certificate = directive("tls", `${inside.proxyConfig}/tls.crt`, `${inside.proxyConfig}/tls.key`);

/** Paths that belong to one service alone; below `/<service>/` all of them are reached. */
const knownPaths: Readonly<Record<ServiceName, readonly string[]>> = {
  embedder: ["/embed", "/similarity", "/embeddings", "/v1/embeddings"],
  reranker: ["/rerank", "/v1/rerank", "/v2/rerank"],
  index: ["/api/v1/vector-store/*"],
};

/**
 * Configuration of the ingress: one address for all services of all nodes. `/embedder/…` reaches the embedder, `/reranker/…`
 * the reranker, `/index/…` the index; paths that only one of them has (`/rerank`, `/v1/embeddings`) are reached as they are.
 */
export function renderIngressCaddyfile(node: ComposeNode, ingress: NodeIngress): string {
  const outer: ComposeNode = { ...node, ingressAddress: null };
  const encrypted = node.tls.mode !== "off";
  const routes = serviceNames.flatMap((service) => ingressRoutes(node, ingress, service));
  const site = siteOf(outer, encrypted ? tlsPort : plainPort, [
    // As written: in an order of its own Caddy would look at paths before it looks at who asks.
    withBlock(
      ["route"],
      [
        ...onlyFrom(node.allow),
        ...routes,
        withBlock(["handle"], [directive("respond", "There is no such service here.", "404")]),
      ],
    ),
    orNobody,
  ]);
  const ports = encrypted ? [directive("https_port", String(tlsPort))] : [];
  return caddyfile([...title(node, "ingress"), globalOptions(outer, ports), ...snippets(), ...site]);
}

function ingressRoutes(node: ComposeNode, { nodes }: NodeIngress, service: ServiceName): readonly Line[] {
  const upstreams = nodes.flatMap(({ node: name, address, services }) =>
    inOrder(services)
      .filter(([each]) => each === service)
      // Its own node is reached inside: published ports are not for containers of the same host.
      .map(([, port]) => (name === node.node ? `proxy:${internalPort[service]}` : hostPort(address, port))),
  );
  if (upstreams.length === 0) return [];
  const lines = routeTo(upstreams, "least_conn", `${service}-ingress`, ingressLimits(node, service));
  return [
    withBlock(["handle_path", `/${service}/*`], lines),
    directive(`@${service}`, "path", ...knownPaths[service]),
    withBlock(["handle", `@${service}`], lines),
  ];
}

function ingressLimits(node: ComposeNode, service: ServiceName): ReturnType<typeof limitsOf> {
  return limitsOf(node.services.find((each) => each.service === service)?.instances ?? []);
}

const hostPort = (address: string, port: number): string => `${address.includes(":") ? `[${address}]` : address}:${port}`;
