import { drainedTogether, type Drained } from "../../../domain/drained.js";
import { Failed, TargetUnreachable } from "../../../domain/errors.js";
import type { InstanceId, ServiceName } from "../../../domain/names.js";
import type { RehearsedStep } from "../../../domain/rehearsal.js";
import type { ModelRef, ServiceSpec } from "../../../domain/release.js";
import type { DeviceSight } from "../../../domain/compose/device-evidence.js";
import type { DeviceMemory } from "../../../domain/strategy.js";
import { ms, type Milliseconds } from "../../../domain/units.js";
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
  Probes,
  RemovedModels,
  TargetDriver,
} from "../../../ports.js";
import type { CommandNodes } from "../../nodes/command-nodes.js";
import { mergedLogs } from "./merged-logs.js";
import { mergeHealth, mergeObservations, type Seen } from "./merged-nodes.js";
import { fanOut, inTime, reachable, turnsOf } from "./on-hosts.js";
import { placeOf } from "./place-of.js";

export interface HostsDriverOptions {
  /** In the order of gpuctl.yaml. */
  hosts: readonly [NodeTarget, ...NodeTarget[]];
  /** Names of the nodes that run a service. */
  nodesOf(service: ServiceName): readonly string[];
  /** Which hosts the command is about. */
  nodes: CommandNodes;
  /** Name of the node with the ingress; absent without one. */
  ingress?: string | undefined;
  /** How long one host may take to show what runs there; less than everybody who asks waits. */
  looksFor?: Milliseconds;
}

const usualLook = ms(30_000);

/**
 * The hosts of an environment as one target. What is done is done on all of them that the command is about, at once, and to its end on
 * each; the first failure is then thrown, with the host to blame. Traffic is moved host by host by the use case, through `nodesOf`.
 */
export class HostsDriver implements TargetDriver {
  readonly target = "compose";
  readonly #options: HostsDriverOptions;
  /** Where an instance was seen last: it is ended there too, when its service is to run elsewhere by now. */
  readonly #seenOn = new Map<InstanceId, readonly string[]>();

  constructor(options: HostsDriverOptions) {
    this.#options = options;
  }

  nodesOf(service: ServiceName): readonly NodeTarget[] {
    const names = this.#options.nodesOf(service);
    return this.#hosts().filter(({ node }) => names.includes(node));
  }

  at(node: string): TargetDriver {
    const found = this.#options.hosts.find((host) => host.node === node);
    if (found === undefined) throw new Failed(`${node} is no node of this environment`, { nextSteps: ["gpuctl status"] });
    return found.driver;
  }

  only(nodes: readonly string[]): HostsDriver {
    const [first, ...rest] = this.#options.hosts.filter(({ node }) => nodes.includes(node));
    if (first === undefined) throw new Failed(`none of ${nodes.join(", ")} is a node of this environment`);
    return new HostsDriver({ ...this.#options, hosts: [first, ...rest] });
  }

  rehearse(tell: (step: RehearsedStep) => void): HostsDriver {
    const rehearsed = ({ node, driver }: NodeTarget): NodeTarget => {
      if (driver.rehearse === undefined) throw new Failed(`${node} knows no dry run`);
      return { node, driver: driver.rehearse(tell) };
    };
    const [first, ...rest] = this.#options.hosts;
    return new HostsDriver({ ...this.#options, hosts: [rehearsed(first), ...rest.map(rehearsed)] });
  }

  async preflight(specs: readonly ServiceSpec[], signal: AbortSignal): Promise<readonly Finding[]> {
    const here = (node: string): readonly ServiceSpec[] =>
      specs.filter(({ service }) => this.#options.nodesOf(service).includes(node));
    const found = await this.#all(this.#hosts(), ({ node, driver }) => driver.preflight(here(node), signal));
    return found.flat();
  }

  /** One host first: what is wrong with an image or a model shows before it is sent to all. */
  async stage(spec: ServiceSpec, part: "code" | "models", signal: AbortSignal): Promise<string> {
    const [first, ...rest] = this.nodesOf(spec.service);
    if (first === undefined) return `no node runs ${spec.service}`;
    const stage = ({ driver }: NodeTarget): Promise<string> => driver.stage(spec, part, signal);
    return [...(await this.#all([first], stage)), ...(await this.#all(rest, stage))].join("; ");
  }

  async staged(spec: ServiceSpec): Promise<boolean> {
    return (await this.#all(this.nodesOf(spec.service), ({ driver }) => driver.staged(spec))).every(Boolean);
  }

  /** Of those that can be reached: about the others nothing is known. */
  async intact(spec: ServiceSpec): Promise<boolean> {
    return (await reachable(this.nodesOf(spec.service), ({ driver }) => driver.intact(spec))).every(({ value }) => value);
  }

  async probes(model: ModelRef): Promise<Probes | null> {
    const said = await reachable(this.#hosts(), async ({ driver }) => (await driver.probes?.(model)) ?? null);
    return said.find(({ value }) => value !== null)?.value ?? null;
  }

  async memory(): Promise<readonly DeviceMemory[]> {
    return (await reachable(this.#hosts(), ({ driver }) => driver.memory())).flatMap(({ value }) => value);
  }

  /** A host that cannot be reached is told, and the others are reported all the same. */
  async observe(): Promise<Observation> {
    const { nodes, looksFor = usualLook } = this.#options;
    const hosts = this.#hosts();
    const answers = await Promise.allSettled(hosts.map(({ node, driver }) => inTime(node, looksFor, driver.observe())));
    const seen = answers.map((answer, position): Seen => {
      const node = hosts[position]?.node ?? "";
      if (answer.status === "fulfilled") return { node, observation: answer.value, silent: null };
      const failure: unknown = answer.reason;
      if (failure instanceof TargetUnreachable) return { node, observation: null, silent: failure };
      nodes.blame(failure, node);
      throw failure;
    });
    const silences = seen.flatMap(({ silent }) => silent ?? []);
    if (silences[0] !== undefined && silences.length === seen.length) throw silences[0];
    const merged = mergeObservations(seen, (service) => this.nodesOf(service).map(({ node }) => node));
    for (const { id, nodes: where } of merged.instances) this.#seenOn.set(id, where?.map(({ node }) => node) ?? []);
    return merged;
  }

  async ensureManager(lease: Lease, signal: AbortSignal): Promise<void> {
    for (const turn of await this.#turns()) await this.#all(turn, ({ driver }) => driver.ensureManager(lease, signal));
  }

  async #turns(): Promise<readonly (readonly NodeTarget[])[]> {
    const hosts = this.#hosts();
    if (hosts.length < 2) return [hosts];
    const seen = await this.#all(hosts, async ({ node, driver }) => ({ node, ...(await driver.observe()) }));
    const restarting = seen.filter(({ manager }) => manager.state === "running" && manager.restarts !== undefined);
    return turnsOf(
      hosts,
      restarting.map(({ node }) => node),
      this.#options.ingress,
    );
  }

  async start(
    instance: InstanceSpec,
    secrets: Readonly<Record<string, string>>,
    lease: Lease,
    signal?: AbortSignal,
  ): Promise<void> {
    await this.#all(this.nodesOf(instance.service), ({ driver }) => driver.start(instance, secrets, lease, signal));
  }

  async health(id: InstanceId): Promise<InstanceHealth> {
    const hosts = this.#hostsOf(id);
    const answers = await this.#all(hosts, ({ driver }) => driver.health(id));
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

  async open(id: InstanceId, lease: Lease, signal?: AbortSignal): Promise<void> {
    await this.#all(this.#hostsOf(id), ({ driver }) => driver.open(id, lease, signal));
  }

  async close(id: InstanceId, drain: Milliseconds, lease: Lease, signal?: AbortSignal): Promise<Drained> {
    return drainedTogether(await this.#all(this.#hostsWith(id), ({ driver }) => driver.close(id, drain, lease, signal)));
  }

  async stop(id: InstanceId, after: Milliseconds | null, lease: Lease): Promise<void> {
    await this.#all(this.#hostsWith(id), ({ driver }) => driver.stop(id, after, lease));
  }

  async suspend(id: InstanceId, times: { drain: Milliseconds; restoreAfter: Milliseconds }, lease: Lease): Promise<void> {
    await this.#all(this.#hostsWith(id), ({ driver }) => driver.suspend(id, times, lease));
  }

  async standBy(
    service: ServiceName,
    instance: InstanceSpec | null,
    secrets: Readonly<Record<string, string>>,
    prove: (there: TargetDriver, id: InstanceId) => Promise<void>,
    lease: Lease,
    signal: AbortSignal,
  ): Promise<void> {
    const there = this.nodesOf(service);
    await this.#all(there, async ({ driver }) => driver.standBy?.(service, instance, secrets, prove, lease, signal));
  }

  async logTail(id: InstanceId, lines: number): Promise<readonly string[]> {
    const hosts = this.#hostsOf(id);
    const tails = await this.#all(hosts, ({ driver }) => driver.logTail(id, lines));
    if (hosts.length === 1) return tails.flat();
    return tails.flatMap((tail, position) => tail.map((line) => `${hosts[position]?.node ?? ""}: ${line}`));
  }

  logs(
    services: readonly ServiceName[],
    options: { lines: number; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<LogLine> {
    return mergedLogs(this.#hosts(), services, options, signal);
  }

  async destroy(lease: Lease): Promise<void> {
    await this.#all(this.#hosts(), ({ driver }) => driver.destroy(lease));
  }

  async prune(keep: readonly ServiceSpec[], lease: Lease): Promise<readonly { what: string; bytes: number }[]> {
    const hosts = this.#hosts();
    const removed = await this.#all(hosts, ({ driver }) => driver.prune(keep, lease));
    if (hosts.length === 1) return removed.flat();
    return removed.flatMap((each, position) =>
      each.map(({ what, bytes }) => ({ what: `${what} on ${hosts[position]?.node ?? ""}`, bytes })),
    );
  }

  removeModels(models: readonly ModelRef[], lease: Lease): Promise<RemovedModels> {
    return this.#modelsOf(async (driver) => driver.removeModels?.(models, lease));
  }

  pruneModels(keep: readonly ModelRef[], lease: Lease): Promise<RemovedModels> {
    return this.#modelsOf(async (driver) => driver.pruneModels?.(keep, lease));
  }

  async #modelsOf(change: (driver: TargetDriver) => Promise<RemovedModels | undefined>): Promise<RemovedModels> {
    const hosts = this.#hosts();
    const none: RemovedModels = { removed: [], kept: [] };
    const said = await this.#all(hosts, async ({ driver }) => (await change(driver)) ?? none);
    const name = (host: number): string => hosts[host]?.node ?? "";
    return {
      removed: said.flatMap(({ removed }, host) =>
        removed.map(({ what, bytes }) => ({ what: `${what} on ${name(host)}`, bytes })),
      ),
      kept: said.flatMap(({ kept }, host) => kept.map((line) => `${name(host)}: ${line}`)),
    };
  }

  /** The hosts that the command is about. */
  #hosts(): readonly NodeTarget[] {
    return this.#options.hosts.filter(({ node }) => this.#options.nodes.inUse(node));
  }

  #hostsOf(id: InstanceId): readonly NodeTarget[] {
    return this.nodesOf(placeOf(id).service);
  }

  /** Where it is to run, and where it does run. */
  #hostsWith(id: InstanceId): readonly NodeTarget[] {
    const names = [...this.#hostsOf(id).map(({ node }) => node), ...(this.#seenOn.get(id) ?? [])];
    return this.#hosts().filter(({ node }) => names.includes(node));
  }

  #first(id: InstanceId): NodeTarget {
    return this.#hostsOf(id)[0] ?? this.#options.hosts[0];
  }

  #all<T>(hosts: readonly NodeTarget[], work: (host: NodeTarget) => Promise<T>): Promise<readonly T[]> {
    return fanOut(hosts, this.#options.nodes, work);
  }
}
