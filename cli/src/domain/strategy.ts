import { instanceOf, type Observed } from "./drift.js";
import type { Candidate, DeviceLoad } from "./device-load.js";
import { inOrder, type PerService } from "./fingerprint.js";
import { expectedPeak, ledgerOf, peakKey } from "./ledger.js";
import type { Device, InstanceId, ServiceName } from "./names.js";
import { instanceId, type ReleaseRecord, type ServiceRelease } from "./release.js";
import { modelsOf } from "./release.js";
import { mostOnGpu } from "./placement.js";
import { mib, type MiB, type Milliseconds } from "./units.js";

/** Memory of one device that services are given: a GPU, or the RAM of a node. */
export interface DeviceMemory {
  device: Device;
  /** Where it is, for people: `gpu-1, GPU-8a56…`; null on a target with one place. */
  place: string | null;
  /** Services that are given it; null for all. */
  services: readonly ServiceName[] | null;
  /** Memory a candidate can use: VRAM free on cuda, available RAM on cpu; null for a MIG instance, of which nobody tells it. */
  freeMiB: MiB | null;
  totalMiB: MiB;
}

/** What decides how candidates take over. */
export interface StrategyInput {
  records: readonly ReleaseRecord[];
  observed: Observed;
  memory: readonly DeviceMemory[];
  /** Declared memory, for services that were never measured. */
  budgets: PerService<MiB | null>;
  /** Size of the files of a service's models, where they are here. */
  modelSizes: PerService<MiB | null>;
  load: Milliseconds;
}

/** A service that changes: what it will be, and what it is now. */
export interface Replacement {
  service: ServiceName;
  placed: ServiceRelease;
  old: ServiceRelease | undefined;
}

/** What a deploy would do to every device. */
export function deviceLoads(input: StrategyInput, replacements: readonly Replacement[]): readonly DeviceLoad[] {
  return input.memory.map((memory) => {
    const here = replacements.filter(({ service }) => memory.services?.includes(service) ?? true);
    const starting = here.filter(({ placed }) => !runs(input.observed, instanceOf(placed)));
    return {
      place: memory.place,
      free: memory.freeMiB,
      total: memory.totalMiB,
      candidates: starting.map((each) => candidateOf(input, each, memory.device)),
      predecessors: here.flatMap(({ service, old }) =>
        old !== undefined && isOn(old, memory.device) && runs(input.observed, instanceOf(old))
          ? [{ service, peak: mib(old.peakMiB ?? 0) }]
          : [],
      ),
      ending: endingOf(input, starting),
    };
  });
}

function candidateOf(input: StrategyInput, each: Replacement, device: Device): Candidate {
  const { service } = each;
  const peak = expectedOf(input, each, device);
  if (peak !== null || device !== "cuda") return { service, peak };
  const files = input.modelSizes[service] ?? null;
  return { service, peak, atMost: files === null ? null : mostOnGpu(files) };
}

/** Whether an instance holds memory of a kind of device; one that was never proven may. */
const isOn = ({ proof }: ServiceRelease, device: Device): boolean => proof === null || proof.device === device;

/** On a GPU another model, or this one on the CPU, says nothing of what a candidate needs. */
function isLike(old: ServiceRelease, placed: ServiceRelease, device: Device): boolean {
  const models = ({ spec }: ServiceRelease): string =>
    modelsOf(spec)
      .map(({ id, revision }) => `${id}@${revision}`)
      .join(" ");
  return device !== "cuda" || (isOn(old, device) && models(old) === models(placed));
}

/** What a candidate will need: as it was measured before, else as its predecessor or its like, else as declared. */
function expectedOf(input: StrategyInput, { service, placed, old }: Replacement, device: Device): MiB | null {
  const measured = expectedPeak(ledgerOf(input.records), peakKey(placed.spec, device))?.peak;
  const likely = old !== undefined && isLike(old, placed, device) ? old.peakMiB : null;
  const known = placed.peakMiB ?? measured ?? likely ?? input.budgets[service] ?? null;
  return known === null ? null : mib(known);
}

/** What ends before the candidates start, whatever the strategy. */
function endingOf({ records, observed }: StrategyInput, starting: readonly Replacement[]): MiB {
  const ids = starting.flatMap(({ service, placed }) => warmInSlot(observed, service, placed).map(({ id }) => id));
  return mib(ids.reduce((sum, id) => sum + peakOf(records, id), 0));
}

/** What an instance of any recorded release was measured to need. */
function peakOf(records: readonly ReleaseRecord[], id: InstanceId): number {
  const services = records.flatMap((record) => inOrder(record.services).map(([, service]) => service));
  return services.find((service) => instanceOf(service) === id)?.peakMiB ?? 0;
}

export const runs = (observed: Observed, id: InstanceId): boolean =>
  observed.instances.some((instance) => instance.id === id && instance.process === "running");

/** The same loads with what is free now: warm instances whose slot was needed have ended by then. */
export function loadsNow(planned: readonly DeviceLoad[], memory: readonly DeviceMemory[]): readonly DeviceLoad[] {
  return planned.map((load) => {
    const now = memory.find(({ place }) => place === load.place);
    return { ...load, free: now === undefined ? mib(0) : now.freeMiB, ending: mib(0) };
  });
}

/** Warm instances of older releases that sit in the slot a new instance needs. */
export function warmInSlot(observed: Observed, service: ServiceName, placed: ServiceRelease): readonly { id: InstanceId }[] {
  return observed.instances
    .filter((seen) => seen.service === service && seen.process === "running" && seen.traffic !== "open")
    .filter((seen) => seen.id === instanceId(seen.service, seen.release, placed.slot));
}
