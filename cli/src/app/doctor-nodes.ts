import { readLabels } from "../domain/compose/labels.js";
import type { EnvironmentConfig, ServiceConfig } from "../domain/config/resolved.js";
import type { ProjectFacts } from "../domain/doctor/facts.js";
import { blocker, ok, warning, type DoctorFinding } from "../domain/doctor/finding.js";
import { TargetUnreachable } from "../domain/errors.js";
import { cdiDeviceFor } from "../domain/preflight/cdi-device.js";
import { planFixes, type Fix } from "../domain/preflight/fixes.js";
import type { NodeFacts } from "../domain/preflight/facts.js";
import { judgeGpuContainer } from "../domain/preflight/gpu-container.js";
import { judgeNode, sortFindings } from "../domain/preflight/judge.js";
import { isOwn, settleDevices, wantsGpu, type NodeNeeds } from "../domain/preflight/needs.js";
import { nodeNames, nodeNeeds, type Load } from "../domain/preflight/needs-of.js";
import type { AuditLog, Progress } from "../ports.js";
import type { NodeInspector, NodeLoads, NodeWants } from "../ports/node-inspector.js";

export interface NodeReport {
  node: string;
  findings: readonly DoctorFinding[];
  /** Repairs that are safe: those that could be made, or how each went. */
  fixes: readonly NodeFix[];
  /** What was seen; null for a node that could not be reached. */
  facts: NodeFacts | null;
}

export interface NodeFix extends Fix {
  outcome: { state: "planned" } | { state: "done" } | { state: "failed"; because: string };
}

/** What all nodes of an environment are looked at with. */
export interface NodesRequest {
  config: EnvironmentConfig;
  nodes: NodeInspector;
  /** What a deploy would bring to them; absent where nobody can tell. */
  loads?: NodeLoads;
  models: ProjectFacts["models"];
  /** The image that deploys give to services with a GPU; null before one was named or pushed. */
  gpuImage: string | null;
  /** Whether to make the safe repairs; the report is then that of afterwards. */
  repair: boolean;
  signal: AbortSignal;
  /** Takes what was mended, on those hosts that keep an audit already. */
  audit?: Pick<AuditLog, "append">;
  progress?: Progress;
}

/** Every node of an environment, side by side. One that cannot be reached is a finding of that node. */
export async function inspectNodes(request: NodesRequest): Promise<NodeReport[]> {
  const reports = await Promise.all(nodeNames(request.config).map((node) => inspectNode(request, node)));
  await noteRepairs(request, reports);
  return reports;
}

/** What was tried on nodes belongs into their audit, as far as they can take it: the repairs themselves are made. */
async function noteRepairs({ audit, progress }: NodesRequest, reports: readonly NodeReport[]): Promise<void> {
  const made = reports.flatMap(({ node, fixes }) =>
    fixes.flatMap(({ what, outcome }) => {
      if (outcome.state === "planned") return [];
      return [`${node}: ${what}${outcome.state === "failed" ? ` (failed: ${outcome.because})` : ""}`];
    }),
  );
  if (made.length === 0) return;
  await audit?.append({ action: "doctor", release: null, detail: made.join("; ") }).catch((thrown: unknown) => {
    const because = thrown instanceof Error ? thrown.message : String(thrown);
    progress?.emit({ kind: "warning", text: `the audit was not written: ${because}` });
  });
}

async function inspectNode(request: NodesRequest, node: string): Promise<NodeReport> {
  try {
    const before = await look(request, node);
    const planned = planFixes(before.facts, before.needs);
    if (!request.repair || planned.length === 0) {
      return report(
        before,
        planned.map((fix) => ({ ...fix, outcome: { state: "planned" } })),
      );
    }
    const fixes = await makeFixes(request, node, planned);
    return report(await look(request, node), fixes);
  } catch (error) {
    if (!(error instanceof TargetUnreachable)) throw error;
    const next = error.nextSteps.length > 0 ? error.nextSteps : [`ssh ${node}`];
    const finding = blocker("machine", "node-unreachable", error.message, error.because ?? error.message, next);
    return { node, findings: [finding], fixes: [], facts: null };
  }
}

interface Look {
  needs: NodeNeeds;
  findings: readonly DoctorFinding[];
  facts: NodeFacts;
}

const report = ({ needs, findings, facts }: Look, fixes: readonly NodeFix[]): NodeReport => ({
  node: needs.node,
  findings,
  fixes,
  facts,
});

async function look(request: NodesRequest, node: string): Promise<Look> {
  const { config, gpuImage, nodes, signal } = request;
  const wanted = withModels(nodeNeeds(config, node, unknownLoad), request);
  const facts = await nodes.inspect(node, wanted.dataDirectory, signal);
  const needs = { ...wanted, ...(await loadOf(request, wanted, facts)) };
  const gpu = await tryGpus(facts, needs, gpuImage, nodes, signal);
  return { needs, findings: sortFindings([...judgeNode(facts, needs), ...gpu]), facts };
}

const unknownLoad: Load = { imageBytes: null, sentBytes: 0, modelBytes: null };

/** What a deploy would bring; where only the node could tell and cannot, the models are counted as if it had none. */
async function loadOf({ config, loads, models }: NodesRequest, needs: NodeNeeds, facts: NodeFacts): Promise<Load> {
  const { node } = needs;
  const used = modelNames(servicesOn(config, node));
  const devices = settleDevices(needs, facts).services.map((service) => (wantsGpu(service) ? "cuda" : "cpu"));
  const wants: NodeWants = { devices: [...new Set(devices)], models: used };
  return (await loads?.of(node, wants, facts)) ?? { ...unknownLoad, modelBytes: modelBytes(used, models) };
}

/** One after the other, each whatever became of the one before: none depends on another. */
async function makeFixes({ nodes, signal }: NodesRequest, node: string, planned: readonly Fix[]): Promise<NodeFix[]> {
  const made: NodeFix[] = [];
  for (const fix of planned) {
    const because = await nodes.repair(node, fix.argv, signal);
    made.push({ ...fix, outcome: because === null ? { state: "done" } : { state: "failed", because } });
  }
  return made;
}

const servicesOn = ({ services }: EnvironmentConfig, node: string): readonly ServiceConfig[] =>
  Object.values(services).filter(({ nodes }) => nodes == null || nodes.includes(node));

/** The same needs, with the size of the models that each service loads. */
function withModels(needs: NodeNeeds, { config, models }: NodesRequest): NodeNeeds {
  const loaded = new Map(
    servicesOn(config, needs.node).map((each) => [each.service as string, modelBytes(modelNames([each]), models)]),
  );
  return { ...needs, services: needs.services.map((each) => ({ ...each, modelBytes: loaded.get(each.name) ?? null })) };
}

/** Models that services use, each once. */
function modelNames(services: readonly ServiceConfig[]): string[] {
  const used = services.flatMap(({ model, fallback }) => [model, fallback?.kind === "model" ? fallback.model : null]);
  return [...new Set(used.filter((name) => name !== null))];
}

/** Bytes of models; null when the size of one is not known. */
function modelBytes(used: readonly string[], models: ProjectFacts["models"]): number | null {
  const sizes = used.map((wanted) => models.find(({ name }) => name === wanted)?.bytes ?? null);
  return sizes.reduce<number | null>((sum, bytes) => (sum === null || bytes === null ? null : sum + bytes), 0);
}

/** The first that is there of the image that is deployed next and those that run; null for none. */
async function presentImage(
  { docker }: NodeFacts,
  needs: NodeNeeds,
  next: string | null,
  present: (image: string) => Promise<boolean>,
): Promise<string | null> {
  const containers = docker.state === "reachable" && docker.containers.seen ? docker.containers.value : [];
  const running = containers.filter((each) => isOwn(each, needs) && readLabels(each.labels) !== null).map(({ image }) => image);
  for (const image of new Set([...(next === null ? [] : [next]), ...running])) if (await present(image)) return image;
  return null;
}

/** Nothing is known of GPU containers yet: what somebody requires and nobody has seen is no good news. */
function untried(next: string | null, required: boolean): DoctorFinding {
  const what = "whether a GPU container starts was not tried";
  const because = next === null ? "no image is named in gpuctl.yaml or gpuctl.lock.json" : `${next} is not on the node yet`;
  if (!required) return ok("GPU", "gpu-container-untried", `${what}: ${because}`);
  const pulled =
    next === null || next.startsWith("sha256:")
      ? []
      : [`docker pull ${next}   # there, then gpuctl doctor again, which tries it`];
  const steps = [
    ...(next === null ? ["gpuctl images push --device cuda, or images: { services: name@sha256:… } in gpuctl.yaml"] : pulled),
    "gpuctl deploy, which tries it as soon as the image is there, before anything that runs is stopped",
  ];
  return warning("GPU", "gpu-container-untried", what, because, steps);
}

/** One container for each reserved GPU that has a CDI device; those that have none are findings already. */
async function tryGpus(
  facts: NodeFacts,
  needs: NodeNeeds,
  next: string | null,
  nodes: NodeInspector,
  signal: AbortSignal,
): Promise<DoctorFinding[]> {
  const { docker } = facts;
  const { node, services } = settleDevices(needs, facts);
  const wanted = [...new Set(services.filter(wantsGpu).map(({ gpu }) => gpu))];
  if (docker.state !== "reachable" || wanted.length === 0) return [];
  const image = await presentImage(facts, needs, next, (each) => nodes.hasImage(node, each, docker.as, signal));
  const requires = services.some(({ device }) => device.require === "cuda");
  if (image === null) return [untried(next, requires)];
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
