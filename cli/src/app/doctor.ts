import type { EnvironmentConfig } from "../domain/config/resolved.js";
import { diagnose, tally, type ProjectState } from "../domain/doctor/diagnose.js";
import { checkCertificates } from "../domain/doctor/certificates.js";
import type { HostFacts, ProjectFacts } from "../domain/doctor/facts.js";
import type { DoctorFinding } from "../domain/doctor/finding.js";
import { GpuctlError } from "../domain/errors.js";
import type { AuditLog, Finding, HostInspector, ModelStore, Progress, TargetDriver } from "../ports.js";
import type { NodeInspector, NodeLoads } from "../ports/node-inspector.js";
import { inspectNodes, type NodeReport } from "./doctor-nodes.js";

/** What doctor needs of a project whose configuration could be loaded. */
export interface DoctorProject {
  config: EnvironmentConfig;
  models: Pick<ModelStore, "resolve" | "verify">;
  /** Null for a target that has no driver yet. */
  driver: Pick<TargetDriver, "observe"> | null;
  /** Looks at the hosts of an environment that has some; absent where nothing can reach them. */
  nodes?: NodeInspector;
  /** What a deploy would bring to those hosts; absent where nobody can tell. */
  loads?: NodeLoads;
  /** The image that deploys give to services with a GPU; null before one was named or pushed. */
  gpuImage?: () => Promise<string | null>;
  /** Why HTTPS does not answer on its hosts; absent where certificates are nobody's or one's own. */
  unencrypted?: () => Promise<readonly string[]>;
  /** Takes what was mended, on those hosts that keep an audit already. */
  audit?: Pick<AuditLog, "append">;
  progress?: Progress;
}

/** `broken` is why the project could not be loaded; null when there is no project file. `repair`: make the safe repairs on its nodes. */
export type DoctorRequest = { host: HostInspector; signal: AbortSignal; repair?: boolean } & (
  { project: DoctorProject } | { project: null; broken: GpuctlError | null }
);

export interface DoctorReport {
  /** About this machine and the project. */
  findings: readonly DoctorFinding[];
  /** About each node of the environment; none for a target without nodes of its own. */
  nodes: readonly NodeReport[];
  /** Of all of them. */
  blockers: number;
  warnings: number;
  /** What was seen, for bug reports and scripts. */
  facts: HostFacts;
}

/**
 * Looks at everything a deploy depends on, without changing anything; without a network but that to the environment's own nodes, which
 * ask the registry how large an image is that they lack.
 */
export async function doctor(request: DoctorRequest): Promise<DoctorReport> {
  const [facts, project] = await Promise.all([request.host.inspect(request.signal), projectState(request)]);
  const findings = diagnose(facts, project);
  const nodes = await nodeReports(request, project);
  return { findings, nodes, ...tally([...findings, ...nodes.flatMap((node) => node.findings)]), facts };
}

async function nodeReports(
  { project, signal, repair = false }: DoctorRequest,
  state: ProjectState,
): Promise<readonly NodeReport[]> {
  if (project?.nodes === undefined) return [];
  const models = state.state === "usable" ? state.facts.models : [];
  const { config, nodes, loads, audit, progress } = project;
  const gpuImage = await gpuImageOf(project);
  return inspectNodes({
    config,
    nodes,
    models,
    gpuImage,
    repair,
    signal,
    ...(loads && { loads }),
    ...(audit && { audit }),
    ...(progress && { progress }),
  });
}

/** None where nobody can tell: a lock that cannot be read is a finding of the models already. */
async function gpuImageOf({ gpuImage }: DoctorProject): Promise<string | null> {
  try {
    return (await gpuImage?.()) ?? null;
  } catch (error) {
    if (!(error instanceof GpuctlError)) throw error;
    return null;
  }
}

async function projectState(request: DoctorRequest): Promise<ProjectState> {
  if (request.project === null) {
    if (request.broken === null) return { state: "absent" };
    const { message, nextSteps } = request.broken;
    return { state: "unusable", message, nextSteps: nextSteps.length > 0 ? nextSteps : ["gpuctl config validate"] };
  }
  const { host, signal, project } = request;
  const [models, ports, certificates] = await Promise.all([
    modelFacts(project, signal),
    portFacts(host, project),
    certificateFacts(project),
  ]);
  return { state: "usable", facts: projectFacts(project.config, models), ports: [...ports, ...certificates] };
}

/** What a host does not say is a finding of that host already. */
async function certificateFacts({ unencrypted }: DoctorProject): Promise<DoctorFinding[]> {
  try {
    return checkCertificates((await unencrypted?.()) ?? []);
  } catch (error) {
    if (!(error instanceof GpuctlError)) throw error;
    return [];
  }
}

function projectFacts(config: EnvironmentConfig, models: ProjectFacts["models"]): ProjectFacts {
  const services = Object.values(config.services).map(({ service, device }) => ({
    name: service,
    prefersCuda: device.prefer === "cuda",
    requiresCuda: device.require === "cuda",
    proof: device.proof,
  }));
  return { file: config.projectFile, environment: config.environment, target: config.target, services, models };
}

/** Ports matter only where this machine serves. */
async function portFacts(host: HostInspector, { config, driver }: DoctorProject): Promise<DoctorFinding[]> {
  if (config.target !== "process") return [];
  const instances = await (driver?.observe() ?? null)?.then(
    (seen) => seen.instances,
    (error: unknown) => {
      if (error instanceof GpuctlError) return [];
      throw error;
    },
  );
  const pids = (instances ?? []).flatMap(({ process }) => (process.state === "running" ? [process.pid] : []));
  return (await host.ports(config, pids)).map((finding: Finding) => ({ group: "ports", ...finding }));
}

/** Every model that a service uses: fetched, pinned and whole. */
async function modelFacts({ config, models }: DoctorProject, signal: AbortSignal): Promise<ProjectFacts["models"]> {
  const names = new Set(
    Object.values(config.services).flatMap(({ model, fallback }) => [model, fallback?.kind === "model" ? fallback.model : null]),
  );
  const found: ProjectFacts["models"][number][] = [];
  for (const name of names) {
    if (name === null) continue;
    try {
      const model = await models.resolve(name, config);
      const [damage] = await models.verify(model, signal);
      const problem =
        damage === undefined
          ? null
          : { because: `${damage.file}: ${damage.because}`, nextSteps: ["gpuctl models fetch, which repairs it"] };
      found.push({ name, bytes: model.bytes, problem });
    } catch (error) {
      if (!(error instanceof GpuctlError)) throw error;
      const nextSteps = error.nextSteps.length > 0 ? error.nextSteps : ["gpuctl models fetch"];
      found.push({ name, bytes: null, problem: { because: error.because ?? error.message, nextSteps } });
    }
  }
  return found;
}
