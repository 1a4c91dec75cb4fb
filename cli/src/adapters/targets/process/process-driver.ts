import type { Drained } from "../../../domain/drained.js";
import { TargetUnreachable } from "../../../domain/errors.js";
import type { InstanceId, ServiceName } from "../../../domain/names.js";
import type { ModelRef, ServiceSpec } from "../../../domain/release.js";
import type { DeviceMemory } from "../../../domain/strategy.js";
import { type Milliseconds, ms } from "../../../domain/units.js";
import type {
  Clock,
  Finding,
  HttpClient,
  HttpRequest,
  HttpResponse,
  InstanceHealth,
  InstanceSpec,
  Lease,
  LogLine,
  Observation,
  TargetDriver,
} from "../../../ports.js";
import type { PackagedCode } from "../../code/packaged-code.js";
import { currentUid, type Directories, type Environment } from "../../state/directories.js";
import type { ProcessIdentity, ProcessTable } from "../../state/process-identity.js";
import { ensurePrivateDirectory } from "../../state/state-directory.js";
import { type DestructionParts, endProcesses, instanceProcesses, keeperProcess, removeRuntimeFiles } from "./destruction.js";
import { healthOf, notRunning } from "./instance-health.js";
import { InstanceFiles } from "./instance-files.js";
import { KeeperClient } from "./keeper-client.js";
import { ensureKeeper, type KeeperCode } from "./keeper-process.js";
import { launchDocument } from "./launch-document.js";
import { NoAnswer } from "./line-socket.js";
import { lastLines } from "./log-files.js";
import { logLines } from "./log-stream.js";
import { freeMemory } from "./memory.js";
import { observe } from "./observation.js";
import { preflight } from "./preflight.js";
import { prune, type Removed } from "./pruning.js";
import { PythonEnvironments } from "./python-environment.js";
import {
  isIntact,
  isStaged,
  modelFor,
  pythonFor,
  type StagedModels,
  stageCode,
  stageModels,
  stageWheel,
  type StagingParts,
} from "./staging.js";
import { StateLayout } from "./state-layout.js";
import { usedCode } from "./used-code.js";

export interface ProcessDriverOptions {
  directories: Directories;
  env: Environment;
  clock: Clock;
  http: HttpClient;
  models: StagedModels;
  code: { current(): Promise<PackagedCode> };
  processes: ProcessTable;
}

/** Child processes on this machine, held by a keeper: the embedded target. */
export class ProcessDriver implements TargetDriver {
  readonly target = "process";
  readonly #options: ProcessDriverOptions;
  readonly #layout: StateLayout;
  readonly #keeper: KeeperClient;
  readonly #files: InstanceFiles;
  readonly #staging: StagingParts;

  constructor(options: ProcessDriverOptions) {
    this.#options = options;
    this.#layout = new StateLayout(options.directories);
    this.#keeper = new KeeperClient(this.#layout.keeperSocket);
    this.#files = new InstanceFiles(this.#layout);
    const environments = new PythonEnvironments(this.#layout.cache);
    this.#staging = { layout: this.#layout, environments, models: options.models, code: options.code };
  }

  async preflight(specs: readonly ServiceSpec[], signal: AbortSignal): Promise<readonly Finding[]> {
    const own = [...(await this.#instanceProcesses()), ...(await keeperProcess(this.#destruction()))];
    const ours = new Set(own.map(({ pid }) => pid));
    return preflight(this.#staging, specs, ours, signal);
  }

  async stage(spec: ServiceSpec, part: "code" | "models", signal: AbortSignal): Promise<string> {
    if (part === "code") return stageCode(this.#staging, spec);
    return stageModels(this.#staging, spec, signal);
  }

  staged(spec: ServiceSpec): Promise<boolean> {
    return isStaged(this.#staging, spec);
  }

  intact(spec: ServiceSpec): Promise<boolean> {
    return isIntact(this.#staging, spec);
  }

  async memory(): Promise<readonly DeviceMemory[]> {
    return [{ device: "cpu", place: null, services: null, ...(await freeMemory()) }];
  }

  observe(): Promise<Observation> {
    return observe({ layout: this.#layout, keeper: this.#keeper, files: this.#files, processes: this.#options.processes });
  }

  async ensureManager(lease: Lease, signal: AbortSignal): Promise<void> {
    await lease.check();
    const { processes, clock, env } = this.#options;
    const host = { layout: this.#layout, keeper: this.#keeper, processes, clock, env };
    await ensureKeeper(host, () => this.#keeperCode(), lease, signal);
  }

  async start(
    instance: InstanceSpec,
    secrets: Readonly<Record<string, string>>,
    lease: Lease,
    signal?: AbortSignal,
  ): Promise<void> {
    const { id, service, spec } = instance;
    const python = await pythonFor(this.#staging, spec.python.lock);
    const directoryOf = async (ref: ModelRef | undefined | null): Promise<string | null> =>
      ref == null ? null : (await modelFor(this.#staging, ref)).directory;
    await stageWheel(this.#staging, spec.code.wheel);
    const document = launchDocument(instance, {
      layout: this.#layout,
      python,
      modelDirectory: await directoryOf(spec.model),
      fallbackDirectory: await directoryOf(spec.fallback?.model),
      secretNames: Object.keys(secrets),
    });
    await lease.check();
    await ensurePrivateDirectory(this.#layout.instances, currentUid());
    await ensurePrivateDirectory(this.#layout.logs, currentUid());
    await this.#files.write(document, secrets);
    await this.#mutate(lease, () => this.#keeper.listen(lease.token, service, spec.listen.host, spec.listen.port));
    signal?.throwIfAborted();
    await this.#mutate(lease, () => this.#keeper.start(lease.token, id));
    if (signal?.aborted !== true) return;
    await this.stop(id, null, lease);
    signal.throwIfAborted();
  }

  async health(id: InstanceId): Promise<InstanceHealth> {
    try {
      return healthOf(await this.request(id, { method: "GET", path: "/health", timeout: ms(2000) }));
    } catch (error) {
      if (!(error instanceof TargetUnreachable)) throw error;
      const found = (await this.observe()).instances.find((each) => each.id === id)?.process ?? null;
      if (found?.state !== "running") throw notRunning(id, found, await this.logTail(id, 20));
      return { status: "loading", device: null, model: null, fallback: false, reason: error.because ?? null };
    }
  }

  request(id: InstanceId, request: HttpRequest, signal?: AbortSignal): Promise<HttpResponse> {
    return this.#options.http.request(this.privateAddress(id), request, signal);
  }

  privateAddress(id: InstanceId): string {
    return `unix:${this.#layout.private(id)}`;
  }

  async open(id: InstanceId, lease: Lease, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    await this.#mutate(lease, () => this.#keeper.open(lease.token, id));
  }

  async close(id: InstanceId, drain: Milliseconds, lease: Lease, signal?: AbortSignal): Promise<Drained> {
    signal?.throwIfAborted();
    return this.#mutate(lease, () => this.#keeper.close(lease.token, id, drain));
  }

  async stop(id: InstanceId, after: Milliseconds | null, lease: Lease): Promise<void> {
    const running = after === null ? await this.#instanceProcesses(id) : [];
    await this.#mutate(lease, () => this.#keeper.stop(lease.token, id, after));
    if (after === null) await endProcesses(this.#destruction(), running, "wait");
  }

  async suspend(id: InstanceId, times: { drain: Milliseconds; restoreAfter: Milliseconds }, lease: Lease): Promise<void> {
    const startTime = this.#options.processes.startTime(process.pid);
    const operator = startTime === null ? null : { pid: process.pid, startTime };
    await this.#mutate(lease, () => this.#keeper.suspend(lease.token, id, times, operator));
  }

  logTail(id: InstanceId, lines: number): Promise<readonly string[]> {
    return lastLines(this.#layout.log(id), lines);
  }

  async *logs(
    services: readonly ServiceName[],
    options: { lines: number; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<LogLine> {
    const { instances } = await this.observe();
    const running = new Set(instances.filter(({ process }) => process.state === "running").map(({ id }) => id));
    yield* logLines({ directory: this.#layout.logs, services, ...options, running }, this.#options.clock, signal);
  }

  async destroy(lease: Lease): Promise<void> {
    await lease.check();
    const own = [...(await this.#instanceProcesses()), ...(await keeperProcess(this.#destruction()))];
    // Without a keeper, or with one that refuses to start, what runs is ended directly.
    const asked = await this.#keeper.shutdown(lease.token, false).then(
      () => true,
      (error: unknown) => {
        if (error instanceof TargetUnreachable) return false;
        throw error;
      },
    );
    await endProcesses(this.#destruction(), own, asked ? "wait" : "ask");
    await removeRuntimeFiles(this.#destruction());
  }

  async prune(keep: readonly ServiceSpec[], lease: Lease): Promise<readonly Removed[]> {
    await lease.check();
    const [{ instances }, documents] = await Promise.all([this.observe(), this.#files.list()]);
    const used = await usedCode(this.#layout, documents, instances);
    const current = await this.#options.code.current();
    return prune(
      {
        layout: this.#layout,
        files: this.#files,
        environments: this.#staging.environments,
        wheelsInUse: used.wheels,
        locksInUse: new Set([current.lock, ...used.locks]),
        instances,
        forget: (id) => this.#mutate(lease, () => this.#keeper.forget(lease.token, id)),
      },
      keep,
    );
  }

  /** Runs a mutation under the lease; a keeper that died meanwhile is replaced once, because every operation can be repeated. */
  async #mutate<T>(lease: Lease, operation: () => Promise<T>): Promise<T> {
    await lease.check();
    try {
      return await operation();
    } catch (error) {
      const nobodyThere = error instanceof TargetUnreachable && error.cause instanceof NoAnswer && error.cause.kind !== "late";
      if (!nobodyThere) throw error;
      await this.ensureManager(lease, new AbortController().signal);
      return operation();
    }
  }

  async #keeperCode(): Promise<KeeperCode> {
    const current = await this.#options.code.current();
    const wheel = await stageWheel(this.#staging, current.wheel);
    return { python: await pythonFor(this.#staging, current.lock), wheel, version: current.version };
  }

  /** Processes of the instances that run, or of one of them. */
  async #instanceProcesses(only?: InstanceId): Promise<readonly ProcessIdentity[]> {
    const { instances } = await this.observe();
    return instanceProcesses(this.#destruction(), only === undefined ? instances : instances.filter(({ id }) => id === only));
  }

  #destruction(): DestructionParts {
    const { processes, clock } = this.#options;
    return { layout: this.#layout, processes, clock };
  }
}
