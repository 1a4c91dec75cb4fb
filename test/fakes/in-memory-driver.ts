import type { Drained } from "../../cli/src/domain/drained.js";
import { Failed, PreflightRefused, TargetUnreachable } from "../../cli/src/domain/errors.js";
import type { InstanceId } from "../../cli/src/domain/names.js";
import type { ModelRef, ServiceSpec } from "../../cli/src/domain/release.js";
import type { DeviceMemory } from "../../cli/src/domain/strategy.js";
import { mib, ms, type Milliseconds } from "../../cli/src/domain/units.js";
import type {
  Clock,
  Finding,
  HttpRequest,
  HttpResponse,
  InstanceHealth,
  InstanceSpec,
  Lease,
  LogLine,
  Observation,
  Probes,
  TargetDriver,
} from "../../cli/src/ports.js";
import { answerIndex } from "./index-behaviour.js";
import { memoryOfOneMiB, type FakeInstance, type Machine } from "./machine.js";
import { embed, faultOf, rerank, tokensOf, type Fault } from "./service-behaviour.js";

const loadMs = 300;

/** A target whose processes are entries of a map. Obeys the same rules as a real one: tokens, gates before traffic, one writer. */
export class InMemoryDriver implements TargetDriver {
  readonly target = "process";
  readonly machine: Machine;
  readonly #clock: Clock;
  readonly findings: Finding[] = [];
  /** How every wait for last requests ends. */
  drained: Drained["drained"] = true;

  constructor(machine: Machine, clock: Clock) {
    this.machine = machine;
    this.#clock = clock;
  }

  preflight(): Promise<readonly Finding[]> {
    return Promise.resolve([...this.findings, { level: "ok", code: "fine", what: "the machine is fine" }]);
  }

  stage(spec: ServiceSpec, part: "code" | "models"): Promise<string> {
    const model = spec.model?.name ?? "";
    if (part === "code") this.machine.wheels.add(spec.code.wheel);
    else if (this.machine.editedModels.has(model))
      return Promise.reject(new Failed(`a file of the model ${model} is not what was fetched`));
    else if (this.machine.missingModels.has(model))
      return Promise.reject(new PreflightRefused(`there is no model ${model}`, { nextSteps: ["gpuctl models fetch"] }));
    return Promise.resolve(part === "code" ? `wheel ${spec.code.wheel}` : `model ${spec.model?.id ?? "none"}`);
  }

  staged(spec: ServiceSpec): Promise<boolean> {
    return Promise.resolve(this.machine.wheels.has(spec.code.wheel) && !this.machine.missingModels.has(spec.model?.name ?? ""));
  }

  probes?: (model: ModelRef) => Promise<Probes | null>;

  intact(spec: ServiceSpec): Promise<boolean> {
    return this.machine.editedModels.has(spec.model?.name ?? "") ? Promise.resolve(false) : this.staged(spec);
  }

  memory(): Promise<readonly DeviceMemory[]> {
    const free = { freeMiB: mib(this.machine.freeMiB), totalMiB: mib(16_000) };
    return Promise.resolve([{ device: "cpu", place: null, services: null, ...free }]);
  }

  observe(): Promise<Observation> {
    this.#settleTimers();
    const now = this.#clock.monotonic();
    return Promise.resolve({
      manager: this.#manager(),
      instances: [...this.machine.instances.values()].map((instance) => ({
        id: instance.is.id,
        service: instance.is.service,
        release: instance.is.release,
        slot: instance.is.slot,
        process: instance.process,
        traffic: instance.traffic,
        restarts: faultOf(instance, now) === "restarts-when-open" ? instance.restarts + 1 : instance.restarts,
        inflight: 0,
        stopsInMs: instance.stopsAt === null ? null : instance.stopsAt - now,
      })),
      listeners: [],
      unencrypted: this.machine.unencrypted(),
    });
  }

  #manager(): Observation["manager"] {
    const { managerRuns, outOfDate } = this.machine;
    if (!managerRuns) return { state: "absent", detail: "no keeper" };
    return { state: "running", detail: "keeper 1", ...(outOfDate.length === 0 ? {} : { restarts: [...outOfDate] }) };
  }

  async ensureManager(lease: Lease): Promise<void> {
    this.#accept(lease);
    this.machine.managerRuns = true;
    this.machine.outOfDate = [];
    return Promise.resolve();
  }

  async start(is: InstanceSpec, secrets: Readonly<Record<string, string>>, lease: Lease, _signal?: AbortSignal): Promise<void> {
    this.#accept(lease);
    if (!this.machine.managerRuns) throw new TargetUnreachable("the keeper does not answer");
    if (!(await this.staged(is.spec))) throw new Failed(`${is.id} cannot start`, { because: "its files are not staged" });
    if (this.machine.running(is.id) !== null) throw new Failed(`${is.id} runs already`);
    this.machine.nextPid += 1;
    this.machine.instances.set(is.id, {
      is,
      secrets,
      process: { state: "running", pid: this.machine.nextPid },
      traffic: "closed",
      restarts: 0,
      startedAt: this.#clock.monotonic(),
      openedAt: null,
      stopsAt: null,
      restoresAt: this.machine.instances.get(is.id)?.restoresAt ?? null,
    });
  }

  health(id: InstanceId): Promise<InstanceHealth> {
    const instance = this.#known(id);
    const now = this.#clock.monotonic();
    const fault = faultOf(instance, now);
    const loaded = now - instance.startedAt >= loadMs;
    if (fault === "exits-at-load" && now - instance.startedAt >= loadMs / 2) {
      instance.process = { state: "exited", code: 1, signal: null };
      return Promise.reject(new Failed(`${id} exited with status 1`, { because: "load-failed: no such engine" }));
    }
    if (instance.process.state !== "running") return Promise.reject(new Failed(`${id} has exited`));
    const base = { model: instance.is.spec.model?.id ?? null, fallback: false, reason: null };
    if (fault === "says-failed") return Promise.resolve({ ...base, status: "failed", device: null, reason: "bad magic" });
    if (!loaded || fault === "hangs-at-load") return Promise.resolve({ ...base, status: "loading", device: null });
    return Promise.resolve({ ...base, status: "healthy", device: fault === "leaves-device-when-open" ? "mps" : "cpu" });
  }

  async request(id: InstanceId, request: HttpRequest): Promise<HttpResponse> {
    const instance = this.#known(id);
    if (instance.process.state !== "running") throw new TargetUnreachable(`${id} does not answer`);
    const fault = faultOf(instance, this.#clock.monotonic());
    if (fault === "hangs-at-warm-up" && request.path === "/private/warmup") return new Promise(() => undefined);
    if (fault === "slow-when-open" && request.path === "/embed") await this.#clock.sleep(ms(40));
    const body = await this.#answer(instance, request, fault);
    return body instanceof WrongAnswer ? body : { status: 200, headers: {}, body };
  }

  privateAddress(id: InstanceId): string {
    return `unix:/run/${id}.http`;
  }

  open(id: InstanceId, lease: Lease): Promise<void> {
    this.#accept(lease);
    const instance = this.#known(id);
    if (instance.process.state !== "running") return Promise.reject(new Failed(`${id} does not run`));
    if (instance.is.service === "index" && this.machine.writer !== id)
      return Promise.reject(new Failed(`${id} does not hold the writer lock`));
    if (instance.traffic !== "open") instance.openedAt = this.#clock.monotonic();
    instance.traffic = "open";
    instance.stopsAt = null;
    this.machine.callOff(instance.is.service);
    return Promise.resolve();
  }

  close(id: InstanceId, _drain: Milliseconds, lease: Lease, _signal?: AbortSignal): Promise<Drained> {
    this.#accept(lease);
    const instance = this.#known(id);
    if (instance.traffic === "open") instance.traffic = "paused";
    return Promise.resolve({ drained: this.drained, waitedMs: 2 });
  }

  stop(id: InstanceId, after: Milliseconds | null, lease: Lease): Promise<void> {
    this.#accept(lease);
    const instance = this.machine.instances.get(id);
    if (instance === undefined) return Promise.resolve();
    if (after === null) {
      this.machine.end(instance);
      instance.restoresAt = null;
    } else instance.stopsAt = this.#clock.monotonic() + after;
    return Promise.resolve();
  }

  suspend(id: InstanceId, times: { restoreAfter: Milliseconds }, lease: Lease): Promise<void> {
    this.#accept(lease);
    const instance = this.#known(id);
    this.machine.end(instance);
    instance.restoresAt = this.#clock.monotonic() + times.restoreAfter;
    return Promise.resolve();
  }

  logTail(id: InstanceId): Promise<readonly string[]> {
    return Promise.resolve([`{"event":"starting","id":"${id}"}`, `{"event":"load-failed","reason":"no such engine"}`]);
  }

  async *logs(): AsyncIterable<LogLine> {
    for (const { is } of this.machine.instances.values())
      yield await Promise.resolve({ service: is.service, instance: is.id, text: `{"event":"ready"}` });
  }

  destroy(lease: Lease): Promise<void> {
    this.#accept(lease);
    this.machine.instances.clear();
    this.machine.writer = null;
    this.machine.managerRuns = false;
    return Promise.resolve();
  }

  prune(keep: readonly ServiceSpec[], lease: Lease): Promise<readonly { what: string; bytes: number }[]> {
    this.#accept(lease);
    const needed = new Set(keep.map((spec) => spec.code.wheel));
    const removed = [...this.machine.wheels].filter((wheel) => !needed.has(wheel));
    for (const wheel of removed) this.machine.wheels.delete(wheel);
    return Promise.resolve(removed.map((wheel) => ({ what: `wheel ${wheel}`, bytes: 1 })));
  }

  #known(id: InstanceId): FakeInstance {
    this.#settleTimers();
    const instance = this.machine.instances.get(id);
    if (instance === undefined) throw new Failed(`there is no instance ${id}`);
    return instance;
  }

  /** What happens by itself while time passes. */
  #settleTimers(): void {
    const now = this.#clock.monotonic();
    this.machine.passTimeTo(now);
    for (const instance of this.machine.instances.values())
      if (instance.process.state === "running" && faultOf(instance, now) === "dies-when-open") this.machine.kill(instance.is.id);
  }

  #accept(lease: Lease): void {
    if (lease.token < this.machine.highestToken) throw new Failed("stale token");
    this.machine.highestToken = lease.token;
  }

  async #answer(instance: FakeInstance, request: HttpRequest, fault: Fault | null): Promise<unknown> {
    const body = (request.body ?? {}) as Record<string, unknown>;
    const { spec } = instance.is;
    switch (request.path) {
      case "/private/warmup":
        return { shapes: [{ texts: 1, tokens: 16, ms: 4 }], peakRssMiB: memoryOfOneMiB };
      case "/private/proof": {
        const device = fault === "wrong-device" ? "mps" : "cpu";
        return {
          device,
          level: "self",
          providers: ["CPUExecutionProvider"],
          canary: { ok: fault !== "bad-canary", detail: "cosine" },
        };
      }
      case "/metrics":
        return `gpuctl_requests_total{route="/embed",code="200"} 1000.0\ngpuctl_requests_total{route="/embed",code="500"} ${fault === "errors-when-open" ? this.#clock.monotonic() : 0}\n`;
      case "/embed":
        if (fault === "http-500") return new WrongAnswer(500, { error: "engine" });
        return embed(spec, body["inputs"] as string[], fault);
      case "/v1/embeddings": {
        const tokens = (body["input"] as string[]).reduce((sum, text) => sum + tokensOf(text), 0);
        return { usage: { prompt_tokens: fault === "wrong-tokens" ? tokens - 1 : tokens } };
      }
      case "/rerank":
        if (fault === "http-500") return new WrongAnswer(500, { error: "engine" });
        return rerank(spec, body["query"] as string, body["texts"] as string[], fault);
      default:
        return (
          (await answerIndex(this.machine, this.#clock, instance, request.path, body)) ??
          new WrongAnswer(404, { error: "no route" })
        );
    }
  }
}

class WrongAnswer implements HttpResponse {
  readonly status: number;
  readonly headers = {};
  readonly body: unknown;
  constructor(status: number, body: unknown) {
    this.status = status;
    this.body = body;
  }
}
