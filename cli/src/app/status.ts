import { instanceOf } from "../domain/drift.js";
import { configuredEndpoints, endpointsOf } from "../domain/endpoints.js";
import { inOrder } from "../domain/fingerprint.js";
import { managerName, type InstanceId, type ReleaseId, type ServiceName, type Slot, type TargetKind } from "../domain/names.js";
import { describeOperation } from "../domain/operations.js";
import type { ReleaseState, ServiceRelease } from "../domain/release.js";
import { standbyText } from "../domain/standby.js";
import { danglingRecords } from "../domain/settle.js";
import { ms } from "../domain/units.js";
import type { Context, InstanceHealth, InstanceObservation, InstanceProcess, LeaseHolder, Observation } from "../ports.js";
import { budgets, within } from "./lifecycle/deadline.js";
import { keepCurrent, survey, type Survey } from "./lifecycle/survey.js";
import { nodesStatus, type NodeStatus } from "./status-nodes.js";

export interface ServiceStatus {
  service: ServiceName;
  instance: InstanceId | null;
  release: ReleaseId | null;
  slot: Slot | null;
  process: InstanceProcess | null;
  traffic: InstanceObservation["traffic"] | null;
  restarts: number | null;
  inflight: number | null;
  /** What the live instance says; null when it cannot be asked. */
  status: InstanceHealth["status"] | null;
  device: string | null;
  /** Level of the device proof in the release record; null where another device answers than was proven. */
  proof: string | null;
  /** The model that answers. */
  model: string | null;
  /** Whether that is the smaller one, in place of the release's. */
  fallback: boolean;
  /** Why it is degraded or failed, in its own words. */
  reason: string | null;
  /** Where it answers; one for each of its nodes. */
  addresses: readonly string[];
}

export interface StatusReport {
  environment: string;
  target: TargetKind;
  release: { id: ReleaseId; state: ReleaseState; createdAt: string; author: string; rollbackOf: ReleaseId | null } | null;
  manager: Observation["manager"];
  services: readonly ServiceStatus[];
  instances: readonly InstanceObservation[];
  listeners: Observation["listeners"];
  /** On targets of nodes: each of them. */
  nodes: readonly NodeStatus[];
  /** Predecessors that still run, so that a rollback to them is a switch. */
  warm: readonly { instance: InstanceId; service: ServiceName; release: ReleaseId; stopsInMs: number | null }[];
  /** On targets of nodes: what stands behind the services on the CPU, a sentence each. */
  standbys: readonly string[];
  /** Why HTTPS does not answer though gpuctl.yaml wants it, a sentence each. */
  unencrypted: readonly string[];
  /** What differs from the current release, as the operations that would put it right. */
  drift: readonly string[];
  /** Releases whose deploy never ended, and whether somebody is at it. */
  unfinished: readonly { id: ReleaseId; state: ReleaseState; underWay: boolean }[];
  damaged: readonly { file: string; because: string }[];
  lease: LeaseHolder | null;
  /** Set while nothing runs because somebody asked for that. */
  destroyed: { at: string; author: string } | null;
  /** What is wrong, a sentence each. Empty means healthy. */
  problems: readonly string[];
  healthy: boolean;
}

/** Reports what runs and what is wrong; changes nothing and works without the keeper or proxy. */
export async function status(ctx: Context): Promise<StatusReport> {
  const [seen, lease] = await Promise.all([survey(ctx, keepCurrent), ctx.leases.holder()]);
  const destroyed = await findDestruction(ctx, seen);
  const { observation } = seen.facts;
  const services = await Promise.all(rows(ctx, seen).map((row) => withHealth(ctx, row, provenOn(seen, row.service))));
  const underWay = lease?.state === "live";
  const dangling = danglingRecords(seen.stored.records);
  const report = {
    environment: ctx.config.environment,
    target: ctx.config.target,
    release: releaseOf(seen),
    manager: observation.manager,
    services,
    instances: observation.instances,
    listeners: observation.listeners,
    nodes: nodesStatus(ctx, seen).filter(({ node }) => ctx.nodes?.chosen?.includes(node) ?? true),
    warm: warmOf(seen),
    standbys: (observation.standbys ?? []).flatMap((standby) => standbyText(standby) ?? []),
    unencrypted: observation.unencrypted ?? [],
    // While somebody is deploying, what looks like drift is work in progress.
    drift: underWay || destroyed !== null ? [] : seen.plan.drift.map(describeOperation),
    unfinished: dangling.map(({ id, state }) => ({ id, state, underWay })),
    damaged: seen.stored.damaged,
    lease: lease?.state === "released" ? null : lease,
    destroyed,
  };
  const problems = problemsOf(report);
  return { ...report, problems, healthy: problems.length === 0 };
}

/** What ran last was a destroy, and nothing was started since. */
async function findDestruction(ctx: Context, { facts }: Survey): Promise<StatusReport["destroyed"]> {
  const { manager, instances } = facts.observation;
  if (manager.state === "running" || instances.some(({ process }) => process.state !== "stopped")) return null;
  const starting = new Set(["deploy", "rollback", "repair", "good", "destroy"]);
  const last = (await ctx.audit.read(50)).findLast(({ action }) => starting.has(action));
  return last?.action === "destroy" ? { at: last.at, author: last.author } : null;
}

function releaseOf({ current }: Survey): StatusReport["release"] {
  if (current === null) return null;
  const { id, state, createdAt, author, rollbackOf } = current;
  return { id, state, createdAt, author, rollbackOf };
}

function rows(ctx: Context, seen: Survey): readonly ServiceStatus[] {
  const { current, facts } = seen;
  if (current !== null) return inOrder(current.services).map(([, release]) => rowOf(ctx, release, facts.observation));
  return inOrder(ctx.config.services).map(([service, { model }]) => ({
    ...unknown,
    service,
    model,
    addresses: configuredEndpoints(ctx.config, service).map(({ url }) => url),
  }));
}

const unknown = {
  instance: null,
  release: null,
  slot: null,
  process: null,
  traffic: null,
  restarts: null,
  inflight: null,
  status: null,
  device: null,
  proof: null,
  model: null,
  fallback: false,
  reason: null,
};

function rowOf({ config }: Context, release: ServiceRelease, observation: Observation): ServiceStatus {
  const { spec, since, slot, proof } = release;
  const id = instanceOf(release);
  const seen = observation.instances.find((instance) => instance.id === id);
  return {
    ...unknown,
    service: spec.service,
    instance: id,
    release: since,
    slot,
    process: seen?.process ?? null,
    traffic: seen?.traffic ?? null,
    restarts: seen?.restarts ?? null,
    inflight: seen?.inflight ?? null,
    proof: proof === null ? null : proof.level,
    model: spec.model?.id ?? null,
    addresses: endpointsOf(config, spec.service, spec.listen).map(({ url }) => url),
  };
}

const provenOn = ({ current }: Survey, service: ServiceName): string | null => current?.services[service]?.proof?.device ?? null;

async function withHealth(ctx: Context, row: ServiceStatus, proven: string | null): Promise<ServiceStatus> {
  const { instance, process } = row;
  if (instance === null || process?.state !== "running") return row;
  try {
    const health = await within(ctx.clock, ms(budgets.ask / 2), `asking ${instance}`, () => ctx.driver.health(instance));
    // A release names the model that should answer; what answers may be its smaller fallback.
    const model = health.fallback ? (health.model ?? row.model) : row.model;
    const { status, device, fallback, reason } = health;
    return { ...row, status, device, proof: device === proven ? row.proof : null, model, fallback, reason };
  } catch {
    return row;
  }
}

function warmOf({ current, facts }: Survey): StatusReport["warm"] {
  const ours = new Set(inOrder(current?.services ?? {}).map(([, release]) => instanceOf(release)));
  return facts.observation.instances
    .filter(({ id, process, traffic }) => !ours.has(id) && process.state === "running" && traffic === "paused")
    .map(({ id, service, release, stopsInMs }) => ({ instance: id, service, release, stopsInMs }));
}

type Facts = Omit<StatusReport, "problems" | "healthy">;

function problemsOf(report: Facts): readonly string[] {
  const problems: string[] = [];
  if (report.destroyed !== null) {
    const { at, author } = report.destroyed;
    return [`nothing runs, because ${author} destroyed the environment at ${at}; its releases and the index's data are kept`];
  }
  if (report.release === null) problems.push("nothing is deployed");
  else if (report.manager.state === "absent" && report.nodes.every(({ silent }) => silent === null))
    problems.push(`the ${managerName(report.target)} is not there: ${report.manager.detail}`);
  for (const node of report.nodes) problems.push(...nodeProblem(node));
  for (const row of report.services) if (report.release !== null) problems.push(...serviceProblem(row));
  for (const { id, underWay } of report.unfinished)
    if (!underWay) problems.push(`the deploy of ${id} ended before it was finished`);
  for (const { file, because } of report.damaged) problems.push(`release record ${file} is not trusted: ${because}`);
  // Where nodes are silent or new, what they lack is the same trouble once more.
  if (problems.length === 0) problems.push(...report.drift.map((line) => `drift: ${line}`));
  if (report.release !== null) problems.push(...report.unencrypted);
  return problems;
}

function nodeProblem({ node, silent, records, leftOutOf, open }: NodeStatus): readonly string[] {
  const without = leftOutOf === null ? "" : `${leftOutOf} was deployed without it`;
  if (silent !== null)
    return [`${node} cannot be reached: ${silent}${without === "" ? "" : `; ${without}, so another release may serve there`}`];
  if (records === "blank") return [`${node} keeps no release: it is new or was installed again`];
  if (without !== "") return [`${node} is left behind: ${without}, and ${open.join(" and ") || "nothing"} answers there`];
  return records === "behind" ? [`${node} missed the newest release records`] : [];
}

function serviceProblem(row: ServiceStatus): readonly string[] {
  const { service, process, traffic } = row;
  if (process === null) return [`${service} is not there`];
  if (process.state === "stopped-by-reboot") return [`${service} was stopped by reboot`];
  if (process.state !== "running") return [`${service} does not run`];
  if (traffic !== "open") return [`${service} runs but does not answer (${traffic ?? "unknown"})`];
  if (row.status === "healthy") return [];
  return [
    row.status === null
      ? `${service} cannot be asked for its health`
      : `${service} says ${row.status}${row.reason === null ? "" : `: ${row.reason}`}`,
  ];
}
