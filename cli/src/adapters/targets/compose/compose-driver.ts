import { checkersOf } from "../../../domain/compose/render-caddyfile.js";
import { secretFiles } from "../../../domain/compose/host-files.js";
import { privateSocketInside } from "../../../domain/compose/inside.js";
import { ownershipFilters } from "../../../domain/compose/labels.js";
import { HostLayout } from "../../../domain/compose/layout.js";
import { containerName } from "../../../domain/compose/names.js";
import type { ComposeNode, HostInstance } from "../../../domain/compose/node.js";
import { upstreamOf } from "../../../domain/compose/proxy-route.js";
import { closeSteps, drainSteps, openSteps } from "../../../domain/compose/traffic.js";
import type { DeviceSight } from "../../../domain/compose/device-evidence.js";
import { fingerprintOf } from "../../../domain/fingerprint.js";
import type { InstanceId, ServiceName } from "../../../domain/names.js";
import type { RehearsedStep } from "../../../domain/rehearsal.js";
import type { ModelRef, ServiceSpec } from "../../../domain/release.js";
import type { DeviceMemory } from "../../../domain/strategy.js";
import { ms, type Milliseconds } from "../../../domain/units.js";
import type {
  Clock,
  ExecOptions,
  Finding,
  HttpClient,
  HttpRequest,
  HttpResponse,
  InstanceHealth,
  InstanceSpec,
  Lease,
  LogLine,
  ModelStore,
  Observation,
  Probes,
  Progress,
  RemovedModels,
  TargetDriver,
} from "../../../ports.js";
import { execInContainer } from "./container-exec.js";
import { containerHealth } from "./container-health.js";
import { containerLogs, tailOf, type LogSource } from "./container-logs.js";
import { DeviceWitness } from "./device-witness.js";
import { Front, type FrontParts } from "./front.js";
import { GpuTrials, type NodeLook } from "./gpu-trials.js";
import { HostCommands, type HostCommandsOptions } from "./host-commands.js";
import { hostMemory } from "./host-memory.js";
import { HostHttp } from "./host-http.js";
import { placeNode } from "./host-place.js";
import { hostPreflight, type PreflightParts } from "./host-preflight.js";
import { HostReader, nothingKept } from "./host-reader.js";
import type { ImageSource } from "./images.js";
import { instanceOrders, type InstanceOrders } from "./instance-orders.js";
import { ModelProbes } from "./model-probes.js";
import type { NodeSettings } from "../../../domain/compose/node-settings.js";
import type { NodeGpus } from "./node-gpus.js";
import { composeNode, withInstance } from "./node-plan.js";
import { companionOf } from "./observation.js";
import { observationOf } from "./observed-node.js";
import { placeOf } from "./place-of.js";
import { NodeRehearsal } from "./rehearsal.js";
import { pruneNode } from "./pruning.js";
import { destroyNode, pruneModels, removeModels } from "./removal.js";
import { isOnHost, stageOnHost, type HostStaging } from "./staging.js";
import { Standbys } from "./standby.js";
import { startContainer } from "./starting.js";
import { checkedWithin, TrafficMover } from "./traffic-mover.js";

type Secrets = Readonly<Record<string, string>>;

export interface ComposeDriverOptions extends Pick<HostCommandsOptions, "connect" | "guard" | "rehearsal"> {
  node: NodeSettings;
  clock: Clock;
  http: HttpClient;
  progress: Progress;
  models: Pick<ModelStore, "find">;
  /** How nodes fetch models themselves; null where they are sent. */
  fetching: HostStaging["fetching"];
  /** The image that holds a spec's code, pinned. */
  imageOf: (spec: ServiceSpec) => ImageSource;
  companions: FrontParts["companions"];
  certificate: FrontParts["certificate"];
  /** The GPUs that services are given on this node. */
  gpus: NodeGpus;
  /** How a preflight sees the node. */
  look: NodeLook;
}

/** Containers on one host, reached over SSH or this machine, behind a Caddy of their own. */
export class ComposeDriver implements TargetDriver {
  readonly target = "compose";
  readonly #options: ComposeDriverOptions;
  readonly #layout: HostLayout;
  readonly #commands: HostCommands;
  readonly #http: HostHttp;
  readonly #filters: readonly string[];
  readonly #reader: HostReader;
  readonly #orders: InstanceOrders;
  readonly #mover: TrafficMover;
  readonly #witness: DeviceWitness;
  readonly #probes: ModelProbes;
  readonly #standbys: Standbys;
  readonly #front: Front;
  readonly #preflight: PreflightParts;

  constructor(options: ComposeDriverOptions) {
    const { node, clock, progress } = options;
    const layout = new HostLayout(node.dataDirectory, node.project, node.environment);
    const filters = ownershipFilters(node.project, node.environment);
    const commands = new HostCommands({ ...options, node: node.node, root: layout.root });
    const http = new HostHttp(commands, options.http);
    const reader = new HostReader({ commands, layout, filters });
    const parts = { layout, filters, commands, http, clock, progress };
    this.#options = options;
    [this.#layout, this.#filters, this.#commands, this.#http, this.#reader] = [layout, filters, commands, http, reader];
    this.#witness = new DeviceWitness(commands);
    this.#probes = new ModelProbes(commands);
    this.#orders = instanceOrders(commands, filters);
    this.#mover = new TrafficMover({ ...parts, reader });
    this.#front = new Front({ ...parts, companions: options.companions, certificate: options.certificate });
    const logTail = (id: InstanceId, lines: number): Promise<readonly string[]> => this.logTail(id, lines);
    const seen = { view: () => reader.view(), kept: () => reader.kept() };
    const asked = { ...options, ...parts, ...seen, gpuOf: (spec: ServiceSpec) => options.gpus.of(spec) };
    this.#preflight = { ...asked, trials: new GpuTrials(asked) };
    this.#standbys = new Standbys({ ...options, ...parts, reader, orders: this.#orders, mover: this.#mover, logTail });
  }

  rehearse(tell: (step: RehearsedStep) => void): ComposeDriver {
    return new ComposeDriver({ ...this.#options, rehearsal: new NodeRehearsal(this.#options.node.node, tell) });
  }

  async preflight(specs: readonly ServiceSpec[], signal: AbortSignal): Promise<readonly Finding[]> {
    signal.throwIfAborted();
    return [...(await hostPreflight(this.#preflight, specs, signal)), ...(await this.#front.findings(this.#empty))];
  }

  stage(spec: ServiceSpec, part: "code" | "models", signal: AbortSignal): Promise<string> {
    const { trials } = this.#preflight;
    return stageOnHost({ ...this.#options, commands: this.#commands, trials }, spec, part, signal);
  }

  staged(spec: ServiceSpec): Promise<boolean> {
    return isOnHost({ commands: this.#commands, imageOf: this.#options.imageOf }, spec);
  }

  /** Images are named by what they hold; models look as they did when they were hashed on the host. */
  intact(spec: ServiceSpec): Promise<boolean> {
    return this.staged(spec);
  }

  probes(model: ModelRef): Promise<Probes | null> {
    return this.#probes.of(model);
  }

  async memory(): Promise<readonly DeviceMemory[]> {
    const services = this.#options.node.services.map(({ service }) => service);
    return hostMemory(this.#commands, await this.#options.gpus.given(), services);
  }

  async observe(): Promise<Observation> {
    const [view, kept] = await Promise.all([this.#reader.view(), this.#reader.kept()]);
    const upstreams =
      companionOf(view, "proxy")?.state === "running" ? await this.#http.upstreams(this.#layout.proxyAdmin) : null;
    const drift = kept.hostMemory === 0 ? undefined : await this.#front.drift(composeNode(this.#options.node, kept), view);
    return observationOf(view, upstreams, this.#options.node, kept, drift);
  }

  async ensureManager(lease: Lease, signal: AbortSignal): Promise<void> {
    await lease.check();
    await this.#front.ensure(composeNode(this.#options.node, await this.#reader.keptOrNew()), lease, signal);
  }

  async start(instance: InstanceSpec, secrets: Secrets, lease: Lease, signal?: AbortSignal): Promise<void> {
    await lease.check();
    const placed = await this.#hostInstance(instance);
    const node = withInstance(composeNode(this.#options.node, await this.#reader.keptOrNew()), placed);
    const changed = await placeNode(this.#commands, node, secretFiles(node, placed, secrets), lease);
    await this.#front.follow(node, changed, lease);
    const gpu = await this.#options.gpus.reserved(instance.spec);
    if (gpu !== null && (await this.#reader.runs(instance.id)) !== true) await this.#witness.before(instance.id, gpu);
    await startContainer({ commands: this.#commands, node, filters: this.#filters }, placed, lease, signal);
  }

  async deviceSight({ id, service, slot, spec }: InstanceSpec): Promise<DeviceSight | null> {
    const gpu = await this.#options.gpus.reserved(spec);
    return gpu === null ? null : this.#witness.now(id, gpu, containerName({ ...this.#options.node, service, slot }));
  }

  health(id: InstanceId): Promise<InstanceHealth> {
    return containerHealth(this, id);
  }

  request(id: InstanceId, request: HttpRequest, signal?: AbortSignal): Promise<HttpResponse> {
    return this.#http.request(this.#layout.private(id), request, signal);
  }

  /** As other containers of the environment see it: all of them have the directory of the sockets. */
  privateAddress(id: InstanceId): string {
    return `unix:${privateSocketInside(id)}`;
  }

  async open(id: InstanceId, lease: Lease, signal?: AbortSignal): Promise<void> {
    await lease.check();
    const { service } = placeOf(id);
    const view = await this.#reader.view();
    const proxied = companionOf(view, "proxy")?.state === "running" || this.#commands.rehearsal !== null;
    if (!proxied) await this.ensureManager(lease, new AbortController().signal);
    if (view.orders.has(id)) await this.#orders.forget(id, lease);
    await this.#mover.carryOut(openSteps({ id }, this.#checkers(service)), ms(0), lease, signal);
    for (const [other, order] of view.orders)
      if (order.kind === "suspended" && other !== id && placeOf(other).service === service)
        await this.#orders.settle(other, lease);
    if (placeOf(id).slot !== "cpu") await this.#standbys.follow(id, service, lease);
  }

  async close(id: InstanceId, drain: Milliseconds, lease: Lease, signal?: AbortSignal): ReturnType<TargetDriver["close"]> {
    const { service, slot } = placeOf(id);
    const steps = closeSteps({ id, upstream: upstreamOf(service, slot) }, this.#checkers(service));
    return this.#mover.carryOut(steps, drain, lease, signal);
  }

  async stop(id: InstanceId, after: Milliseconds | null, lease: Lease): Promise<void> {
    await lease.check();
    await (after === null ? this.#orders.stop(id, lease) : this.#orders.stopLater(id, after, lease));
  }

  async suspend(id: InstanceId, times: { drain: Milliseconds; restoreAfter: Milliseconds }, lease: Lease): Promise<void> {
    const { service, slot } = placeOf(id);
    const draining = drainSteps({ id, upstream: upstreamOf(service, slot) }, this.#checkers(service));
    // The host promises to bring it back before anything is taken from it: whoever asks for this may be lost while it drains.
    await this.#orders.suspend(id, service, ms(checkedWithin + times.drain + times.restoreAfter), lease);
    await this.#mover.drain(id, draining, times.drain, lease);
    await this.#orders.makeRoom(id, lease);
  }

  async standBy(
    service: ServiceName,
    instance: InstanceSpec | null,
    secrets: Secrets,
    prove: (there: TargetDriver, id: InstanceId) => Promise<void>,
    lease: Lease,
    signal: AbortSignal,
  ): Promise<void> {
    await lease.check();
    await this.#standbys.renew(service, instance, secrets, (id) => prove(this, id), lease, signal);
  }

  logTail(id: InstanceId, lines: number): Promise<readonly string[]> {
    return tailOf(this.#logSource(), id, lines);
  }

  exec(id: InstanceId, command: readonly [string, ...string[]], options: ExecOptions): Promise<number> {
    return execInContainer({ commands: this.#commands, filters: this.#filters }, id, command, options);
  }

  logs(
    services: readonly ServiceName[],
    options: { lines: number; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<LogLine> {
    return containerLogs(this.#logSource(), { services, ...options }, signal);
  }

  async destroy(lease: Lease): Promise<void> {
    await lease.check();
    await destroyNode(this.#commands, this.#empty, this.#layout, this.#filters, lease);
  }

  async prune(keep: readonly ServiceSpec[], lease: Lease): Promise<readonly { what: string; bytes: number }[]> {
    await lease.check();
    const found = { view: await this.#reader.view(), node: composeNode(this.#options.node, await this.#reader.keptOrNew()) };
    const parts = { commands: this.#commands, layout: this.#layout, filters: this.#filters, imageOf: this.#options.imageOf };
    return pruneNode(parts, found, keep, lease);
  }

  removeModels(models: readonly ModelRef[], lease: Lease): Promise<RemovedModels> {
    return removeModels(this.#commands, models, lease);
  }

  pruneModels(keep: readonly ModelRef[], lease: Lease): Promise<RemovedModels> {
    return pruneModels(this.#commands, keep, lease);
  }

  async #hostInstance(instance: InstanceSpec): Promise<HostInstance> {
    const { imageOf, gpus } = this.#options;
    const { id, service, release, slot, spec } = instance;
    const image = imageOf(spec).reference;
    return { id, service, release, slot, spec, fingerprint: fingerprintOf(spec), image, gpu: await gpus.of(spec) };
  }

  get #empty(): ComposeNode {
    return composeNode(this.#options.node, nothingKept);
  }

  #checkers(service: ServiceName): readonly string[] {
    return checkersOf(this.#empty, service);
  }

  #logSource(): LogSource {
    const { clock, progress } = this.#options;
    const tell = (text: string): void => progress.emit({ kind: "warning", text });
    return { commands: this.#commands, filters: this.#filters, clock, instances: () => this.#reader.instances(), tell };
  }
}
