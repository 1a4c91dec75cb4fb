import { TargetUnreachable } from "../../../domain/errors.js";
import type { InstanceId, ServiceName } from "../../../domain/names.js";
import type { ServiceSpec } from "../../../domain/release.js";
import type { DeviceSight } from "../../../domain/compose/device-evidence.js";
import type { DeviceMemory } from "../../../domain/strategy.js";
import type { Milliseconds } from "../../../domain/units.js";
import type {
  Finding,
  HttpRequest,
  HttpResponse,
  InstanceHealth,
  InstanceSpec,
  Lease,
  LogLine,
  NodeTarget,
  Observation,
  TargetDriver,
} from "../../../ports.js";
import { mergedLogs } from "./merged-logs.js";
import { mergeHealth, mergeObservations, type Seen } from "./merged-nodes.js";
import { placeOf } from "./place-of.js";

export interface HostsDriverOptions {
  /** In the order of gpuctl.yaml. */
  hosts: readonly [NodeTarget, ...NodeTarget[]];
  /** Names of the nodes that run a service. */
  nodesOf(service: ServiceName): readonly string[];
  /** Most hosts whose traffic is moved at the same time. */
  parallel: number;
}

/**
 * The hosts of an environment as one target: what is prepared is prepared on all of them, traffic is moved host by host, and the
 * first host that fails ends it, so that the use case takes everything back.
 */
export class HostsDriver implements TargetDriver {
  readonly target = "compose";
  readonly #options: HostsDriverOptions;

  constructor(options: HostsDriverOptions) {
    this.#options = options;
  }

  nodesOf(service: ServiceName): readonly NodeTarget[] {
    const names = this.#options.nodesOf(service);
    return this.#options.hosts.filter(({ node }) => names.includes(node));
  }

  async preflight(specs: readonly ServiceSpec[], signal: AbortSignal): Promise<readonly Finding[]> {
    const here = (node: string): readonly ServiceSpec[] =>
      specs.filter(({ service }) => this.#options.nodesOf(service).includes(node));
    const found = await all(this.#options.hosts, ({ node, driver }) => driver.preflight(here(node), signal));
    return found.flat();
  }

  /** One host first: what is wrong with an image or a model shows before it is sent to all. */
  async stage(spec: ServiceSpec, part: "code" | "models", signal: AbortSignal): Promise<string> {
    const [first, ...rest] = this.nodesOf(spec.service);
    if (first === undefined) return `no node runs ${spec.service}`;
    const said = [await first.driver.stage(spec, part, signal)];
    said.push(...(await all(rest, ({ driver }) => driver.stage(spec, part, signal))));
    return said.join("; ");
  }

  async staged(spec: ServiceSpec): Promise<boolean> {
    return (await all(this.nodesOf(spec.service), ({ driver }) => driver.staged(spec))).every(Boolean);
  }

  /** Of those that can be reached: about the others nothing is known. */
  async intact(spec: ServiceSpec): Promise<boolean> {
    return (await reachable(this.nodesOf(spec.service), ({ driver }) => driver.intact(spec))).every(({ value }) => value);
  }

  async memory(): Promise<readonly DeviceMemory[]> {
    return (await reachable(this.#options.hosts, ({ driver }) => driver.memory())).flatMap(({ value }) => value);
  }

  /** A host that cannot be reached is told, and the others are reported all the same. */
  async observe(): Promise<Observation> {
    const { hosts } = this.#options;
    const answers = await Promise.allSettled(hosts.map(({ driver }) => driver.observe()));
    const seen = answers.map((answer, position): Seen => {
      const node = hosts[position]?.node ?? "";
      if (answer.status === "fulfilled") return { node, observation: answer.value, silent: null };
      const failure: unknown = answer.reason;
      if (failure instanceof TargetUnreachable) return { node, observation: null, silent: failure };
      throw failure;
    });
    const silences = seen.flatMap(({ silent }) => silent ?? []);
    if (silences[0] !== undefined && silences.length === seen.length) throw silences[0];
    return mergeObservations(seen, (service) => this.#options.nodesOf(service));
  }

  async ensureManager(lease: Lease, signal: AbortSignal): Promise<void> {
    await all(this.#options.hosts, ({ driver }) => driver.ensureManager(lease, signal));
  }

  async start(instance: InstanceSpec, secrets: Readonly<Record<string, string>>, lease: Lease): Promise<void> {
    await all(this.nodesOf(instance.service), ({ driver }) => driver.start(instance, secrets, lease));
  }

  async health(id: InstanceId): Promise<InstanceHealth> {
    const hosts = this.#hostsOf(id);
    const answers = await all(hosts, ({ driver }) => driver.health(id));
    return mergeHealth(answers.map((health, position) => ({ node: hosts[position]?.node ?? "", health })));
  }

  /** On the first host of the service: for what is the same on all of them, and for what runs on one. */
  request(id: InstanceId, request: HttpRequest, signal?: AbortSignal): Promise<HttpResponse> {
    return this.#first(id).driver.request(id, request, signal);
  }

  /** On the first host too: what has to hold on every one of them is asked there. */
  async deviceSight(instance: InstanceSpec): Promise<DeviceSight | null> {
    return (await this.#first(instance.id).driver.deviceSight?.(instance)) ?? null;
  }

  privateAddress(id: InstanceId): string {
    return this.#first(id).driver.privateAddress(id);
  }

  async open(id: InstanceId, lease: Lease): Promise<void> {
    const hosts = this.#hostsOf(id);
    for (let next = 0; next < hosts.length; next += this.#options.parallel)
      await all(hosts.slice(next, next + this.#options.parallel), ({ driver }) => driver.open(id, lease));
  }

  async close(id: InstanceId, drain: Milliseconds, lease: Lease): Promise<{ drained: boolean; waitedMs: number }> {
    const closed = await all(this.#hostsOf(id), ({ driver }) => driver.close(id, drain, lease));
    return {
      drained: closed.every(({ drained }) => drained),
      waitedMs: Math.max(0, ...closed.map(({ waitedMs }) => waitedMs)),
    };
  }

  async stop(id: InstanceId, after: Milliseconds | null, lease: Lease): Promise<void> {
    await all(this.#hostsOf(id), ({ driver }) => driver.stop(id, after, lease));
  }

  async suspend(id: InstanceId, times: { drain: Milliseconds; restoreAfter: Milliseconds }, lease: Lease): Promise<void> {
    await all(this.#hostsOf(id), ({ driver }) => driver.suspend(id, times, lease));
  }

  async logTail(id: InstanceId, lines: number): Promise<readonly string[]> {
    const hosts = this.#hostsOf(id);
    const tails = await all(hosts, ({ driver }) => driver.logTail(id, lines));
    if (hosts.length === 1) return tails.flat();
    return tails.flatMap((tail, position) => tail.map((line) => `${hosts[position]?.node ?? ""}: ${line}`));
  }

  logs(
    services: readonly ServiceName[],
    options: { lines: number; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<LogLine> {
    return mergedLogs(this.#options.hosts, services, options, signal);
  }

  async destroy(lease: Lease): Promise<void> {
    await all(this.#options.hosts, ({ driver }) => driver.destroy(lease));
  }

  async prune(keep: readonly ServiceSpec[], lease: Lease): Promise<readonly { what: string; bytes: number }[]> {
    const { hosts } = this.#options;
    const removed = await all(hosts, ({ driver }) => driver.prune(keep, lease));
    if (hosts.length === 1) return removed.flat();
    return removed.flatMap((each, position) =>
      each.map(({ what, bytes }) => ({ what: `${what} on ${hosts[position]?.node ?? ""}`, bytes })),
    );
  }

  #hostsOf(id: InstanceId): readonly NodeTarget[] {
    return this.nodesOf(placeOf(id).service);
  }

  #first(id: InstanceId): NodeTarget {
    return this.#hostsOf(id)[0] ?? this.#options.hosts[0];
  }
}

/** On all at once; ends when all have ended, with the first failure of the order in which they are given. */
async function all<T>(hosts: readonly NodeTarget[], work: (host: NodeTarget) => Promise<T>): Promise<readonly T[]> {
  const answers = await Promise.allSettled(hosts.map(work));
  return answers.map((answer) => {
    if (answer.status === "rejected") throw answer.reason;
    return answer.value;
  });
}

/** What those said that can be reached. Throws when none can. */
async function reachable<T>(
  hosts: readonly NodeTarget[],
  work: (host: NodeTarget) => Promise<T>,
): Promise<readonly { value: T }[]> {
  const answers = await Promise.allSettled(hosts.map(work));
  const failed = answers.filter((answer) => answer.status === "rejected");
  const grave =
    failed.find(({ reason }) => !(reason instanceof TargetUnreachable)) ??
    (failed.length === hosts.length ? failed[0] : undefined);
  if (grave !== undefined) throw grave.reason;
  return answers.flatMap((answer) => (answer.status === "fulfilled" ? [{ value: answer.value }] : []));
}
