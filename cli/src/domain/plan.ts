import { specChanges } from "./changes.js";
import { hardest, stopFirstOf, strategiesOf, type DeviceLoad } from "./device-load.js";
import { driftOperations, instanceOf, type Observed } from "./drift.js";
import { fingerprintOf, inOrder, releaseIdOf, type PerService } from "./fingerprint.js";
import { currentRelease, keptGood, nextNumber } from "./history.js";
import { serviceNames, type ReleaseId, type ServiceName } from "./names.js";
import { describeOperation, type DriftOperation, type PlannedInstance, type RolloutOperation } from "./operations.js";
import { freeSlot, type Strategy } from "./placement.js";
import type { ReleaseRecord, ServiceRelease, ServiceSpec } from "./release.js";
import { applySettlements, settleDangling, type SeenInstance } from "./settle.js";
import { indexSpace, vectorSpaceOf } from "./spec.js";
import { deviceLoads, runs, warmInSlot, type DeviceMemory, type Replacement } from "./strategy.js";
import type { MiB, Milliseconds } from "./units.js";

/** Everything a plan depends on; nothing else does. */
export interface PlanInput {
  /** The complete set of services the environment shall run. */
  desired: PerService<ServiceSpec>;
  records: readonly ReleaseRecord[];
  observed: Observed;
  /** Health of the instances of releases that were never finished; empty otherwise. */
  seen: readonly SeenInstance[];
  memory: readonly DeviceMemory[];
  /** Declared memory, for services that were never measured. */
  budgets: PerService<MiB | null>;
  /** Size of the files of a service's models, where they are here. */
  modelSizes: PerService<MiB | null>;
  retain: number;
  keepWarm: Milliseconds;
  load: Milliseconds;
  /** Set for a rollback: the release whose services (and, when they still run, instances) come back. */
  rollbackTo: ReleaseRecord | null;
}

export type ChangeKind = "new" | "changed" | "removed";

/** One service that the next release runs differently, and why. */
export interface ServiceChange {
  service: ServiceName;
  kind: ChangeKind;
  because: readonly string[];
}

/** The release a plan would make. */
export interface PlannedRelease {
  id: ReleaseId;
  number: number;
  parent: ReleaseId | null;
  rollbackOf: ReleaseId | null;
  services: PerService<ServiceRelease>;
  changes: readonly ServiceChange[];
  /** The hardest of all devices. */
  strategy: Strategy;
  /** What it does to every device. */
  loads: readonly DeviceLoad[];
  operations: readonly RolloutOperation[];
}

/** Ordered operations: first what puts right the current release, then what moves to the next. Both empty: nothing to do. */
export interface Plan {
  current: ReleaseId | null;
  drift: readonly DriftOperation[];
  release: PlannedRelease | null;
}

/** Plans the way from what was observed to what is desired. Pure: the same input gives the same plan, ids included. */
export function makePlan(input: PlanInput): Plan {
  const verdicts = settleDangling(input.records, input.seen);
  const records = applySettlements(input.records, verdicts);
  const current = currentRelease(records);
  const release = planRelease({ ...input, records }, current);
  const known = new Set(
    keptGood(records, input.retain).flatMap((record) => inOrder(record.services).map(([, service]) => instanceOf(service))),
  );
  const leave = new Set((release?.changes ?? []).map((change) => change.service));
  return {
    current: current?.id ?? null,
    drift: [...verdicts, ...driftOperations(current, input.observed, known, leave)],
    release,
  };
}

export const isEmpty = (plan: Plan): boolean => plan.drift.length === 0 && plan.release === null;

/** What two plans must agree on to be the same plan. */
export function planText(plan: Plan): string {
  return [...plan.drift, ...(plan.release?.operations ?? [])].map(describeOperation).join("\n");
}

function planRelease(input: PlanInput, current: ReleaseRecord | null): PlannedRelease | null {
  const changes = serviceChanges(current, input.desired);
  if (changes.length === 0) return null;
  const number = nextNumber(input.records);
  const parent = current?.id ?? null;
  const id = releaseIdOf(number, input.desired, parent);
  const changed = new Set(changes.map((change) => change.service));
  const services: Partial<Record<ServiceName, ServiceRelease>> = {};
  for (const [service, spec] of inOrder(input.desired)) {
    const kept = current?.services[service];
    services[service] = kept !== undefined && !changed.has(service) ? kept : placeService(input, spec, id, kept);
  }
  const replacements = changes.flatMap(({ service }): readonly Replacement[] => {
    const placed = services[service];
    return placed === undefined ? [] : [{ service, placed, old: current?.services[service] }];
  });
  const loads = deviceLoads(input, replacements);
  const devices = strategiesOf(loads, input.load);
  const strategy = hardest(devices);
  const stopFirst = stopFirstOf(devices);
  const operations = strategy.kind === "refuse" ? [] : rolloutOperations(input, current, changes, services, stopFirst);
  const rollbackOf = input.rollbackTo?.id ?? null;
  return { id, number, parent, rollbackOf, services, changes, strategy, loads, operations };
}

function serviceChanges(current: ReleaseRecord | null, desired: PerService<ServiceSpec>): readonly ServiceChange[] {
  return serviceNames.flatMap((service): readonly ServiceChange[] => {
    const from = current?.services[service];
    const to = desired[service];
    if (to === undefined) return from === undefined ? [] : [{ service, kind: "removed", because: ["no longer configured"] }];
    if (from === undefined) return [{ service, kind: "new", because: ["not deployed yet"] }];
    return from.fingerprint === fingerprintOf(to) ? [] : [{ service, kind: "changed", because: specChanges(from.spec, to) }];
  });
}

/** A changed service's place: the still warm instance a rollback returns to, else a new instance in the free slot. */
function placeService(input: PlanInput, spec: ServiceSpec, id: ReleaseId, kept: ServiceRelease | undefined): ServiceRelease {
  const earlier = input.rollbackTo?.services[spec.service];
  if (earlier !== undefined && isWarm(earlier, input.observed)) return earlier;
  return {
    spec,
    fingerprint: fingerprintOf(spec),
    since: id,
    slot: freeSlot(kept?.slot ?? null),
    peakMiB: null,
    proof: null,
  };
}

/** A paused instance about to be stopped may be gone before it is opened. */
const shortestUsefulWarmthMs = 3000;

/** Whether a service of an earlier release still runs and only needs its traffic back. */
export function isWarm(service: ServiceRelease, observed: Observed): boolean {
  const seen = observed.instances.find((instance) => instance.id === instanceOf(service));
  return (
    seen?.process === "running" &&
    (seen.partial?.missing ?? []).length === 0 &&
    seen.traffic !== "closed" &&
    (seen.stopsInMs === null || seen.stopsInMs > shortestUsefulWarmthMs)
  );
}

function rolloutOperations(
  input: PlanInput,
  current: ReleaseRecord | null,
  changes: readonly ServiceChange[],
  services: PerService<ServiceRelease>,
  stopFirst: ReadonlySet<ServiceName>,
): readonly RolloutOperation[] {
  const { observed } = input;
  const freed: RolloutOperation[] = [];
  const stops: RolloutOperation[] = [];
  const starts: RolloutOperation[] = [];
  const opens: RolloutOperation[] = [];
  const closes: RolloutOperation[] = [];
  for (const { service, because } of changes) {
    const placed = services[service];
    const old = current?.services[service];
    const oldRuns = old !== undefined && runs(observed, instanceOf(old));
    if (placed !== undefined) {
      const instance = plannedInstance(placed);
      const warm = runs(observed, instance.id);
      if (!warm)
        freed.push(
          ...warmInSlot(observed, service, placed).map(
            ({ id }) => ({ kind: "free-slot", service, id, slot: placed.slot }) as const,
          ),
        );
      if (old !== undefined && oldRuns && stopFirst.has(service))
        stops.push({ kind: "stop-first", service, id: instanceOf(old) });
      starts.push({ kind: warm ? "reuse" : "start", service, instance, because });
      opens.push({ kind: "open", service, id: instance.id });
    }
    // Open when it ended: its manager is trying to bring it back, beside the new one.
    if (
      old !== undefined &&
      !oldRuns &&
      observed.instances.some(({ id, traffic }) => id === instanceOf(old) && traffic === "open")
    )
      closes.push({ kind: "stop-dead", service, id: instanceOf(old) });
    if (old !== undefined && oldRuns && !(placed !== undefined && stopFirst.has(service)))
      closes.push({ kind: "close", service, id: instanceOf(old), keepWarmMs: placed === undefined ? 0 : input.keepWarm });
  }
  return [...freed, ...stops, ...starts, ...indexOperations(input, current, changes, services, stopFirst), ...opens, ...closes];
}

function plannedInstance(placed: ServiceRelease): PlannedInstance {
  return { id: instanceOf(placed), service: placed.spec.service, release: placed.since, slot: placed.slot, spec: placed.spec };
}

function indexOperations(
  input: PlanInput,
  current: ReleaseRecord | null,
  changes: readonly ServiceChange[],
  services: PerService<ServiceRelease>,
  stopFirst: ReadonlySet<ServiceName>,
): readonly RolloutOperation[] {
  const placed = services.index;
  if (placed === undefined || !changes.some((change) => change.service === "index")) return [];
  const old = current?.services.index;
  // Stopped first, the old index has already given up its lock; its candidate builds what is missing after it took over.
  const runsThen = old !== undefined && !stopFirst.has("index") && runs(input.observed, instanceOf(old));
  const from = runsThen ? instanceOf(old) : null;
  const space = indexSpace(placed.spec);
  const embedder = services.embedder;
  const operations: RolloutOperation[] = [];
  const otherSpace = old !== undefined && indexSpace(old.spec)?.generation !== space?.generation;
  if (
    space !== null &&
    otherSpace &&
    embedder !== undefined &&
    vectorSpaceOf(embedder.spec.model)?.generation === space.generation
  ) {
    operations.push({ kind: "build-generation", service: "index", writer: from, embedder: instanceOf(embedder), space });
  }
  return [...operations, { kind: "hand-over", service: "index", from, to: instanceOf(placed) }];
}
