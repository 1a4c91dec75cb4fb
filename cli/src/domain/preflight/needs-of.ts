import type { EnvironmentConfig } from "../config/resolved.js";
import { ownershipFilters } from "../compose/labels.js";
import { defaultDataDirectory } from "../compose/layout.js";
import type { NodeNeeds, ServiceNeeds } from "./needs.js";

/** What is still to be brought to a node, as far as it is known. */
export type Load = Pick<NodeNeeds, "imageBytes" | "modelBytes">;

/** Nodes of an environment that reaches hosts by their engine, in the order of gpuctl.yaml; none for other targets. */
export function nodeNames({ targetSettings }: EnvironmentConfig): string[] {
  return targetSettings?.target === "compose" ? Object.keys(targetSettings.nodes) : [];
}

/** What a compose environment wants of one of its nodes. */
export function nodeNeeds(config: EnvironmentConfig, node: string, load: Load): NodeNeeds {
  const settings = config.targetSettings?.target === "compose" ? config.targetSettings : undefined;
  const { gpusExpected: gpus = 0, pinnedBy: by = "" } = settings?.nodes[node] ?? {};
  const services = Object.values(config.services).filter(({ nodes }) => nodes == null || nodes.includes(node));
  return {
    node,
    services: services.map(({ service, port, device, gpu, vramBudget, secrets }): ServiceNeeds => ({
      name: service,
      port,
      device,
      gpu: gpu ?? null,
      vramMiB: vramBudget,
      keys: "API_KEYS" in secrets,
    })),
    ...(gpus > 0 ? { promised: { gpus, by } } : {}),
    bind: settings?.nodes[node]?.bind ?? config.bind,
    allow: settings?.allow ?? null,
    tls: (settings?.tls ?? { mode: "off" }).mode !== "off",
    ...load,
    dataDirectory: settings?.dataDirectory ?? defaultDataDirectory,
    own: ownershipFilters(config.project, config.environment),
  };
}
