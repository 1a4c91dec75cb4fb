import type { EnvironmentConfig } from "../config/resolved.js";
import { plainPort, tlsPort } from "../compose/inside.js";
import { ownershipFilters } from "../compose/labels.js";
import { defaultDataDirectory } from "../compose/layout.js";
import { askedFrom, ingressAddressOf, ingressPort, type ComposeSettings } from "../compose/node-settings.js";
import type { Entrance, NodeNeeds, ServiceNeeds } from "./needs.js";

/** What is still to be brought to a node, as far as it is known. */
export type Load = Pick<NodeNeeds, "imageBytes" | "sentBytes" | "modelBytes">;

/** Nodes of an environment that reaches hosts by their engine, in the order of gpuctl.yaml; none for other targets. */
export function nodeNames({ targetSettings }: EnvironmentConfig): string[] {
  return targetSettings?.target === "compose" ? Object.keys(targetSettings.nodes) : [];
}

const noGpus = { expected: 0, product: null, memory: null } as const;

/** What a compose environment wants of one of its nodes. */
export function nodeNeeds(config: EnvironmentConfig, node: string, load: Load): NodeNeeds {
  const settings = config.targetSettings?.target === "compose" ? config.targetSettings : undefined;
  const { gpusPromised: gpus = noGpus, portsAdmitted: ports = [], pinnedBy: by } = settings?.nodes[node] ?? {};
  const services = Object.values(config.services).filter(({ nodes }) => nodes == null || nodes.includes(node));
  return {
    node,
    services: services.map(({ service, port, device, gpu, vramBudget, model, fallback, secrets }): ServiceNeeds => ({
      name: service,
      port,
      device,
      gpu: gpu ?? null,
      vramMiB: vramBudget,
      modelBytes: model === null ? 0 : null,
      cpuFallback: fallback?.kind === "cpu",
      keys: "API_KEYS" in secrets,
    })),
    entrances: settings === undefined ? [] : entrancesOf(config, settings, node, services.length > 0),
    ...(by === undefined ? {} : { promised: { gpus, ports, by } }),
    bind: settings?.nodes[node]?.bind ?? config.bind,
    allow: settings === undefined ? null : allowedOn(config, settings, node),
    ingress: settings?.ingress !== undefined,
    tls: settings?.ingress === undefined && (settings?.tls?.mode ?? "off") !== "off",
    ...load,
    dataDirectory: settings?.dataDirectory ?? defaultDataDirectory,
    own: ownershipFilters(config.project, config.environment),
  };
}

/** Who may reach a node: those of gpuctl.yaml, the ingress, which asks on their behalf, and an index elsewhere that asks its embedder. */
function allowedOn(config: EnvironmentConfig, settings: ComposeSettings, node: string): readonly string[] | null {
  if (settings.allow === undefined) return null;
  const ingress = ingressAddressOf(config, settings, node);
  return [...new Set([...settings.allow, ...(ingress === null ? [] : [ingress]), ...askedFrom(config, settings, node)])];
}

/** As compose.yaml publishes them. @param runs  whether the node runs services, so that it has a proxy */
function entrancesOf(config: EnvironmentConfig, settings: ComposeSettings, node: string, runs: boolean): Entrance[] {
  const mode = settings.tls?.mode ?? "off";
  const here = settings.ingress?.node === node;
  const port = ingressPort(settings);
  const keys = Object.values(config.services).every(({ secrets }) => "API_KEYS" in secrets);
  const ingress = { name: "ingress", port, inside: mode === "off" ? plainPort : tlsPort, tls: mode !== "off", keys } as const;
  const challenge = { name: "challenge", port: 80, inside: plainPort, tls: false, keys: true } as const;
  const challenged = mode === "acme" && (here ? port !== challenge.port : runs);
  return [...(here ? [ingress] : []), ...(challenged ? [challenge] : [])];
}
