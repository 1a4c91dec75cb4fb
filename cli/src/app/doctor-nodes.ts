import type { EnvironmentConfig } from "../domain/config/resolved.js";
import type { ProjectFacts } from "../domain/doctor/facts.js";
import { blocker, ok, type DoctorFinding } from "../domain/doctor/finding.js";
import { TargetUnreachable } from "../domain/errors.js";
import { cdiDeviceFor } from "../domain/preflight/cdi-device.js";
import type { NodeFacts } from "../domain/preflight/facts.js";
import { judgeGpuContainer } from "../domain/preflight/gpu-container.js";
import { judgeNode, sortFindings } from "../domain/preflight/judge.js";
import { settleDevices, wantsGpu, type NodeNeeds } from "../domain/preflight/needs.js";
import { nodeNames, nodeNeeds } from "../domain/preflight/needs-of.js";
import type { NodeInspector } from "../ports/node-inspector.js";

export interface NodeReport {
  node: string;
  findings: readonly DoctorFinding[];
  /** What was seen; null for a node that could not be reached. */
  facts: NodeFacts | null;
}

/** Every node of an environment, side by side. One that cannot be reached is a finding of that node. */
export function inspectNodes(
  config: EnvironmentConfig,
  nodes: NodeInspector,
  models: ProjectFacts["models"],
  signal: AbortSignal,
): Promise<NodeReport[]> {
  return Promise.all(
    nodeNames(config).map(async (node) => {
      // What the node has of it already is the driver's to know: all of it is the careful answer.
      const needs = nodeNeeds(config, node, { imageBytes: null, modelBytes: modelBytes(config, node, models) });
      try {
        const facts = await nodes.inspect(node, needs.dataDirectory, signal);
        const gpu = await tryGpus(facts, needs, serviceImage(config), nodes, signal);
        return { node, findings: sortFindings([...judgeNode(facts, needs), ...gpu]), facts };
      } catch (error) {
        if (!(error instanceof TargetUnreachable)) throw error;
        const next = error.nextSteps.length > 0 ? error.nextSteps : [`ssh ${node}`];
        return {
          node,
          findings: [blocker("machine", "node-unreachable", error.message, error.because ?? error.message, next)],
          facts: null,
        };
      }
    }),
  );
}

/** Bytes of the models that services of a node use; null when the size of one is not known. */
function modelBytes(config: EnvironmentConfig, node: string, models: ProjectFacts["models"]): number | null {
  const services = Object.values(config.services).filter(({ nodes }) => nodes == null || nodes.includes(node));
  const used = new Set(services.flatMap(({ model, fallback }) => [model, fallback?.kind === "model" ? fallback.model : null]));
  const sizes = models.filter(({ name }) => used.has(name)).map(({ bytes }) => bytes);
  return sizes.reduce<number | null>((sum, bytes) => (sum === null || bytes === null ? null : sum + bytes), 0);
}

function serviceImage({ targetSettings }: EnvironmentConfig): string | null {
  return (targetSettings?.target === "compose" ? targetSettings.images?.services : undefined) ?? null;
}

/** One container for each reserved GPU that has a CDI device; those that have none are findings already. */
async function tryGpus(
  facts: NodeFacts,
  needs: NodeNeeds,
  image: string | null,
  nodes: NodeInspector,
  signal: AbortSignal,
): Promise<DoctorFinding[]> {
  const { docker } = facts;
  const { node, services } = settleDevices(needs, facts);
  const wanted = [...new Set(services.filter(wantsGpu).map(({ gpu }) => gpu))];
  if (docker.state !== "reachable" || wanted.length === 0) return [];
  if (image === null || !(await nodes.hasImage(node, image, docker.as, signal))) {
    const why = image === null ? "no image is named in gpuctl.yaml" : `${image} is not on the node yet`;
    return [ok("GPU", "gpu-container-untried", `whether a GPU container starts was not tried: ${why}`)];
  }
  const findings: DoctorFinding[] = [];
  // One after the other: two that start at once on a card without persistence would wait for each other.
  for (const gpu of wanted) {
    const device = cdiDeviceFor(facts, gpu);
    if (device === null) continue;
    const { probe, result } = await nodes.tryGpu(node, { image, gpu, device, as: docker.as }, signal);
    const found = judgeGpuContainer(probe, result, facts);
    const required = services.some((service) => service.gpu === gpu && service.device.require === "cuda");
    findings.push(found.level === "blocker" && !required ? { ...found, level: "warning" } : found);
  }
  return findings;
}
