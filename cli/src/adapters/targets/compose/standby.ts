import type { HostLayout } from "../../../domain/compose/layout.js";
import { secretFiles } from "../../../domain/compose/host-files.js";
import { hostInstanceId } from "../../../domain/compose/names.js";
import type { ComposeNode, HostInstance } from "../../../domain/compose/node.js";
import type { NodeSettings } from "../../../domain/compose/node-settings.js";
import { upstreamOf } from "../../../domain/compose/proxy-route.js";
import { checkersOf } from "../../../domain/compose/render-caddyfile.js";
import { closeSteps, openSteps } from "../../../domain/compose/traffic.js";
import { canonicalJson } from "../../../domain/canonical.js";
import { Failed, TargetUnreachable } from "../../../domain/errors.js";
import { fingerprintOf } from "../../../domain/fingerprint.js";
import type { InstanceId, ServiceName } from "../../../domain/names.js";
import { modelsOf, type ServiceSpec } from "../../../domain/release.js";
import { ms } from "../../../domain/units.js";
import type { Clock, InstanceHealth, InstanceSpec, Lease, Progress } from "../../../ports.js";
import { healthOf, notRunning } from "../process/instance-health.js";
import type { HostCommands } from "./host-commands.js";
import type { HostHttp } from "./host-http.js";
import { placeNode } from "./host-place.js";
import type { InstanceOrders } from "./instance-orders.js";
import type { HostReader } from "./host-reader.js";
import type { ImageSource } from "./images.js";
import { composeNode, instancesOf, withInstance, withoutInstances } from "./node-plan.js";
import type { HostView } from "./observation.js";
import { forgetInstances } from "./removal.js";
import { startContainer } from "./starting.js";
import type { TrafficMover } from "./traffic-mover.js";

const pollMs = ms(500);

export interface StandbyParts {
  commands: HostCommands;
  layout: HostLayout;
  filters: readonly string[];
  http: HostHttp;
  clock: Clock;
  progress: Progress;
  orders: InstanceOrders;
  mover: TrafficMover;
  reader: HostReader;
  node: NodeSettings;
  imageOf: (spec: ServiceSpec) => ImageSource;
  logTail: (id: InstanceId, lines: number) => Promise<readonly string[]>;
}

/** What answers on the CPU while no slot of a service does. The proxy lists it last, so its gate stands open all the time. */
export class Standbys {
  readonly #parts: StandbyParts;

  constructor(parts: StandbyParts) {
    this.#parts = parts;
  }

  /**
   * @param instance  the one in a slot that it shall stand behind; null for none
   * @param prove     asked before it may answer; what it throws for is ended
   */
  async renew(
    service: ServiceName,
    instance: InstanceSpec | null,
    secrets: Readonly<Record<string, string>>,
    prove: (id: InstanceId) => Promise<void>,
    lease: Lease,
    signal: AbortSignal,
  ): Promise<void> {
    const { commands, filters, mover, reader } = this.#parts;
    const before = await this.#node();
    const there = standbyOf(before, service);
    const wants = before.services.some((each) => each.service === service && each.cpuFallback);
    const wanted = instance === null || !wants ? null : this.#behind(instance);
    if (there !== null && there.id !== wanted?.id) await this.#remove(there, lease);
    if (wanted === null) return;
    const seen = await reader.view();
    if (isRunning(seen, wanted.id) && seen.gates.get(wanted.id) === "open") return;
    const node = withInstance(await this.#node(), wanted);
    await placeNode(commands, node, secretFiles(node, wanted, secrets), lease);
    await startContainer({ commands, node, filters }, wanted, lease, signal);
    try {
      await this.#loaded(wanted, node.budgets.load, signal);
      if (commands.rehearsal === null) await prove(wanted.id);
      else commands.rehearsal.note(`gates     ${wanted.id}: correctness`);
      await mover.carryOut(openSteps(wanted, checkersOf(node, service)), ms(0), lease);
    } catch (thrown) {
      // What cannot stand in must not take memory from what serves. What is wrong with it is worth more than a failure to end it.
      await this.#parts.orders.stop(wanted.id, lease).catch(() => undefined);
      throw thrown;
    }
  }

  /**
   * An instance in a slot was opened: what stands behind it may answer only with the same models, because vectors of another one
   * would be wrong and not slow. The one that was shut for another release comes back when that is taken back.
   */
  async follow(opened: InstanceId, service: ServiceName, lease: Lease): Promise<void> {
    const { progress, mover, reader } = this.#parts;
    const node = await this.#node();
    const standby = standbyOf(node, service);
    const instance = instancesOf(node).find(({ id }) => id === opened);
    if (standby === null || instance === undefined) return;
    const seen = await reader.view();
    const open = seen.gates.get(standby.id) === "open";
    const alike = answersAlike(instance.spec, standby.spec);
    if (open === alike || !isRunning(seen, standby.id)) return;
    const checkers = checkersOf(node, service);
    const steps = alike
      ? openSteps(standby, checkers)
      : closeSteps({ ...standby, upstream: upstreamOf(service, "cpu") }, checkers);
    try {
      await mover.carryOut(steps, ms(0), lease);
    } catch (thrown) {
      if (!alike || !(thrown instanceof Failed)) throw thrown;
      progress.emit({ kind: "warning", text: `${standby.id} does not stand behind ${opened}: ${thrown.message}` });
    }
  }

  /** As it is kept on the host, with the settings of today. */
  async #node(): Promise<ComposeNode> {
    return composeNode(this.#parts.node, await this.#parts.reader.keptOrNew());
  }

  /** The same spec, without its GPU. */
  #behind({ service, release, spec }: InstanceSpec): HostInstance {
    const id = hostInstanceId(service, release, "cpu");
    const image = this.#parts.imageOf(spec).reference;
    return { id, service, release, slot: "cpu", spec, fingerprint: fingerprintOf(spec), image, gpu: null };
  }

  async #remove(standby: HostInstance, lease: Lease): Promise<void> {
    const { commands, layout, filters, orders, mover } = this.#parts;
    const node = await this.#node();
    const { service, id } = standby;
    const steps = closeSteps({ id, upstream: upstreamOf(service, "cpu") }, checkersOf(node, service));
    if (isRunning(await this.#parts.reader.view(), id)) await mover.drain(id, steps, node.budgets.drain, lease);
    await orders.stop(id, lease);
    await forgetInstances(commands, layout, filters, [id], lease);
    await placeNode(commands, withoutInstances(node, new Set([id])), [], lease);
  }

  /** Not yet to be asked is loading; one that has ended is told with its last words. */
  async #health(id: InstanceId): Promise<Pick<InstanceHealth, "status" | "reason">> {
    const { http, layout, reader, logTail } = this.#parts;
    try {
      return healthOf(await http.request(layout.private(id), { method: "GET", path: "/health", timeout: ms(5000) }));
    } catch (error) {
      if (!(error instanceof TargetUnreachable)) throw error;
      if (!isRunning(await reader.view(), id))
        throw notRunning(id, { state: "exited", code: null, signal: null }, await logTail(id, 20));
      return { status: "loading", reason: error.because ?? null };
    }
  }

  async #loaded({ id }: HostInstance, budget: number, signal: AbortSignal): Promise<void> {
    const { clock, commands } = this.#parts;
    if (commands.rehearsal !== null) {
      commands.rehearsal.note(`wait      until ${id} has loaded`);
      return;
    }
    const began = clock.monotonic();
    for (;;) {
      signal.throwIfAborted();
      const { status, reason } = await this.#health(id);
      if (status === "healthy" || status === "degraded") return;
      if (status === "failed" || clock.monotonic() - began > budget)
        throw new Failed(`${id} does not answer on ${commands.node}`, {
          because: reason ?? `it was still loading after ${Math.round(budget / 1000)} s`,
          nextSteps: ["gpuctl status"],
        });
      await clock.sleep(pollMs, signal);
    }
  }
}

const standbyOf = (node: ComposeNode, service: ServiceName): HostInstance | null =>
  instancesOf(node).find((each) => each.service === service && each.slot === "cpu") ?? null;

const isRunning = ({ containers }: HostView, id: InstanceId): boolean =>
  containers.some(({ labels, state }) => labels["dev.gpuctl.instance"] === id && state === "running");

const answersAlike = (a: ServiceSpec, b: ServiceSpec): boolean => identity(a) === identity(b);
const identity = (spec: ServiceSpec): string =>
  canonicalJson(modelsOf(spec).map(({ id, revision, manifest, generation }) => [id, revision, manifest, generation]));
