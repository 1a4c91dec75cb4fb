import { bindOf, nodesOf, type ComposeSettings } from "./compose/node-settings.js";
import type { EnvironmentConfig } from "./config/resolved.js";
import type { ServiceName } from "./names.js";
import { reachableUrl } from "./spec.js";

/** A public address at which a service answers. */
export interface Endpoint {
  /** Null on a target with one place. */
  node: string | null;
  /** As clients write it: `http://10.0.0.5:8001`. */
  url: string;
  port: number;
  /** Whether it is on the machine on which gpuctl runs. */
  thisMachine: boolean;
  /** Whether only its own node can use it. */
  loopback: boolean;
}

/** Every public address of a service, one for each node that runs it, in the order of gpuctl.yaml. @param listen  as its spec says */
export function endpointsOf(
  config: EnvironmentConfig,
  service: ServiceName,
  listen: { host: string; port: number },
): readonly Endpoint[] {
  const { targetSettings } = config;
  if (targetSettings?.target !== "compose") {
    const url = reachableUrl(listen.host, listen.port);
    return [{ node: null, url, port: listen.port, thisMachine: true, loopback: isLoopback(listen.host) }];
  }
  return nodesOf(config, targetSettings, service).map((node) => onNode(config, targetSettings, node, listen.port));
}

/** The same by what gpuctl.yaml says of the service. */
export function configuredEndpoints(config: EnvironmentConfig, service: ServiceName): readonly Endpoint[] {
  const port = config.services[service]?.port;
  return port === undefined ? [] : endpointsOf(config, service, { host: config.bind, port });
}

function onNode(config: EnvironmentConfig, settings: ComposeSettings, node: string, port: number): Endpoint {
  const bind = bindOf(config, settings, node);
  const host = settings.nodes[node]?.host ?? "local";
  const thisMachine = host === "local";
  const address = reachableUrl(!thisMachine && isWildcard(bind) ? host : bind, port);
  return { node, url: withTls(address, settings), port, thisMachine, loopback: isLoopback(bind) };
}

/** Behind an ingress the nodes speak plain HTTP: the ingress has the certificate. */
function withTls(address: string, { tls, ingress }: ComposeSettings): string {
  if (tls === undefined || tls.mode === "off" || ingress !== undefined) return address;
  const port = address.slice(address.lastIndexOf(":") + 1);
  return tls.mode === "acme" ? `https://${tls.domain}:${port}` : address.replace(/^http:/, "https:");
}

const isLoopback = (host: string): boolean => host === "localhost" || host === "::1" || host.startsWith("127.");
const isWildcard = (host: string): boolean => host === "0.0.0.0" || host === "::";
