/** What runs instances: the driver of a target, and what it says of them. */
import type { DeviceSight } from "../domain/compose/device-evidence.js";
import type { Drained } from "../domain/drained.js";
import type { Device, InstanceId, ReleaseId, ServiceName, Slot, TargetKind } from "../domain/names.js";
import type { RehearsedStep } from "../domain/rehearsal.js";
import type { ModelRef, ServiceSpec } from "../domain/release.js";
import type { Standby } from "../domain/standby.js";
import type { DeviceMemory } from "../domain/strategy.js";
import type { Milliseconds } from "../domain/units.js";
import type { Probes } from "./models.js";

export interface Finding {
  level: "ok" | "warning" | "blocker";
  /** Short and stable, for scripts: `port-taken`, `model-missing`. */
  code: string;
  what: string;
  because?: string;
  nextSteps?: readonly string[];
}

/** How a candidate or a kept release is to be started: a spec, in a slot, under a release. */
export interface InstanceSpec {
  id: InstanceId;
  service: ServiceName;
  /** Release whose record holds `spec` (its `since`). */
  release: ReleaseId;
  slot: Slot;
  spec: ServiceSpec;
}

export type InstanceProcess =
  | { state: "running"; pid: number }
  | { state: "exited"; code: number | null; signal: string | null }
  /** Known to the target, but the machine has booted since. */
  | { state: "stopped-by-reboot" }
  | { state: "stopped" };

export interface InstanceObservation {
  id: InstanceId;
  service: ServiceName;
  release: ReleaseId;
  slot: Slot;
  process: InstanceProcess;
  /** Whether it answers public traffic. `paused` keeps it warm for a rollback. */
  traffic: "open" | "paused" | "closed";
  restarts: number;
  /** Requests being answered now; null when it cannot be asked. */
  inflight: number | null;
  /** When a paused instance will be stopped, milliseconds from now; null when not planned. */
  stopsInMs: number | null;
  /** On targets of several nodes: where it is not as the rest says. Absent when it is so on all of its nodes that answer. */
  partial?: PartialInstance;
  /** On targets of nodes: what was seen on each of them. */
  nodes?: readonly NodeInstance[];
}

/** Nodes on which an instance differs from the whole. */
export interface PartialInstance {
  /** Nodes that should run it and do not, though others do. */
  missing: readonly string[];
  /** Nodes on which it runs and does not answer public traffic, though it does on others. */
  shut: readonly string[];
  /** Nodes on which it runs and is not to run (any more). */
  extra: readonly string[];
}

export interface NodeInstance {
  node: string;
  process: InstanceProcess;
  traffic: "open" | "paused" | "closed";
  restarts: number;
}

export interface Observation {
  /** Whether the target's own manager (the keeper, the engine, the API server) answers. */
  manager:
    | {
        state: "running";
        detail: string;
        /** What it was told is not what gpuctl.yaml says now, and why. */
        outdated?: string;
        /** What of it has to be made anew to take that over, such as `proxy of gpu-1`: nobody can connect to it meanwhile. */
        restarts?: readonly string[];
        /** What should run beside the instances and does not, in words; those who use it do without. */
        lacks?: string;
      }
    | { state: "absent"; detail: string };
  instances: readonly InstanceObservation[];
  listeners: readonly { service: ServiceName; host: string; port: number; bound: boolean }[];
  /** On targets of nodes: which of them were looked at, and why nothing was seen on those that are silent. */
  nodes?: readonly { node: string; silent: string | null }[];
  /** On targets of nodes: what stands behind the slots of services, and what should and does not. */
  standbys?: readonly Standby[];
  /** On targets that get certificates themselves: why HTTPS does not answer somewhere, a sentence each. */
  unencrypted?: readonly string[];
}

export interface InstanceHealth {
  status: "healthy" | "degraded" | "loading" | "failed";
  device: Device | null;
  model: string | null;
  /** Whether a smaller model answers in place of the one of the release. */
  fallback: boolean;
  reason: string | null;
}

export interface HttpRequest {
  method: "GET" | "POST" | "DELETE";
  path: string;
  /** Sent as JSON. */
  body?: unknown;
  headers?: Readonly<Record<string, string>>;
  timeout: Milliseconds;
}

export interface HttpResponse {
  status: number;
  headers: Readonly<Record<string, string>>;
  /** Parsed when the answer is JSON, else the text. */
  body: unknown;
}

/** Held while anything is changed; every mutation carries the token and is refused when a newer lease exists. */
export interface Lease {
  readonly token: number;
  /** Throws Failed when the lease was lost. */
  check(): Promise<void>;
  release(): Promise<void>;
}

/**
 * One environment's place to run. Starts, stops, switches and inspects; knows nothing of releases, gates or order.
 * Every mutation takes the lease and refuses a token older than the newest it has seen.
 */
export interface TargetDriver {
  readonly target: TargetKind;
  /**
   * On a target of several nodes: those that run a service, each as a target of its own, for what has to hold on every one of them
   * (proofs, gates, the soak). Absent where there is one place only.
   */
  nodesOf?(service: ServiceName): readonly NodeTarget[];
  /** On a target of several nodes: one of them, whether or not it runs a service. */
  at?(node: string): TargetDriver;
  /** On a target of several nodes: the same target as if it had no others than these. */
  only?(nodes: readonly string[]): TargetDriver;
  /**
   * The same target, on which nothing is changed: each command that would change something is told instead, and whatever is waited for.
   * What is asked is answered as things are. Absent where nothing is known of commands.
   */
  rehearse?(tell: (step: RehearsedStep) => void): TargetDriver;
  /** Phases 2 and 3. Returns every finding, good ones too; throws only when the target cannot be asked. */
  preflight(specs: readonly ServiceSpec[], signal: AbortSignal): Promise<readonly Finding[]>;
  /** Phases 4 and 5: makes code, Python environment and model files of a spec present and verified. Repeatable, no lease. */
  stage(spec: ServiceSpec, part: "code" | "models", signal: AbortSignal): Promise<string>;
  /** Whether a spec could be started without fetching anything. */
  staged(spec: ServiceSpec): Promise<boolean>;
  /** Whether the staged files of a spec are still what was staged: a missing or edited one is drift. */
  intact(spec: ServiceSpec): Promise<boolean>;
  /** What a model has to answer, where the target keeps models itself; null when it does not know. */
  probes?(model: ModelRef): Promise<Probes | null>;
  /** Memory of every device that services are given. */
  memory(): Promise<readonly DeviceMemory[]>;
  /** What runs now, read without changing anything; works when the manager is dead. */
  observe(): Promise<Observation>;
  /**
   * Makes sure the manager runs (starting or replacing it, adopting what runs) and that the public sockets are held. On a target of
   * several nodes those that answer and have to be made anew are never all gone at once.
   */
  ensureManager(lease: Lease, signal: AbortSignal): Promise<void>;
  /**
   * Starts an instance without public traffic. Secrets are values by name, for this call only. Once the signal is aborted nobody wants it
   * any more: it ends when what was begun on the target has been ended there, and removed.
   */
  start(instance: InstanceSpec, secrets: Readonly<Record<string, string>>, lease: Lease, signal?: AbortSignal): Promise<void>;
  /** Throws Failed with the log tail when the instance has exited. */
  health(id: InstanceId): Promise<InstanceHealth>;
  /** One request on the instance's private socket. */
  request(id: InstanceId, request: HttpRequest, signal?: AbortSignal): Promise<HttpResponse>;
  /**
   * What can be seen of an instance's GPU from outside of it, now and before it was started; null for one that was given none.
   * Absent where only the instance itself can tell.
   */
  deviceSight?(instance: InstanceSpec): Promise<DeviceSight | null>;
  /** Where another instance of this environment can reach this one's private HTTP (for re-embedding). */
  privateAddress(id: InstanceId): string;
  /** Lets an instance answer public traffic, and restarts it from then on when it dies. Once the signal is aborted it does nothing more. */
  open(id: InstanceId, lease: Lease, signal?: AbortSignal): Promise<void>;
  /** Stops new public traffic and waits for requests to end. Reversible by `open`. Once the signal is aborted it does nothing more. */
  close(id: InstanceId, drain: Milliseconds, lease: Lease, signal?: AbortSignal): Promise<Drained>;
  /** Ends an instance now, or after a delay that outlives this process. */
  stop(id: InstanceId, after: Milliseconds | null, lease: Lease): Promise<void>;
  /**
   * Drains and ends an instance to make room for its successor. The target itself brings it back, open, unless a successor
   * of its service is opened first: when this process is gone, or after `restoreAfter` at the latest.
   */
  suspend(id: InstanceId, times: { drain: Milliseconds; restoreAfter: Milliseconds }, lease: Lease): Promise<void>;
  /**
   * Puts behind the slots of a service what answers on the CPU while none of them does (`fallback: cpu`), made from the spec of its
   * instance, and takes away what stood there for another; without an instance, or where gpuctl.yaml wants none, only the latter.
   * Ends when it stands ready. Absent on targets that have no such thing.
   * @param prove  asked, with the driver of its node, once it has loaded: what it throws for stays shut and is ended
   */
  standBy?(
    service: ServiceName,
    instance: InstanceSpec | null,
    secrets: Readonly<Record<string, string>>,
    prove: (there: TargetDriver, id: InstanceId) => Promise<void>,
    lease: Lease,
    signal: AbortSignal,
  ): Promise<void>;
  logTail(id: InstanceId, lines: number): Promise<readonly string[]>;
  /**
   * Runs a command where an instance runs, with its environment; the exit status, 128 + n when signal n ended it. Throws Failed when
   * the instance does not run. Absent where instances have no place of their own.
   */
  exec?(id: InstanceId, command: readonly [string, ...string[]], options: ExecOptions): Promise<number>;
  logs(
    services: readonly ServiceName[],
    options: { lines: number; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<LogLine>;
  /** Ends everything of this environment and gives the public sockets back. */
  destroy(lease: Lease): Promise<void>;
  /**
   * Removes models from where `destroy` has ended everything, but for those that somebody else there uses. Absent on targets whose
   * models belong to nobody in particular.
   */
  removeModels?(models: readonly ModelRef[], lease: Lease): Promise<RemovedModels>;
  /** Removes every model from where the environment runs, but for `keep` and those that somebody else there uses; absent as the last one. */
  pruneModels?(keep: readonly ModelRef[], lease: Lease): Promise<RemovedModels>;
  /** Removes staged artefacts that no kept release names; returns what was removed and the bytes freed. */
  prune(keep: readonly ServiceSpec[], lease: Lease): Promise<readonly { what: string; bytes: number }[]>;
}

export interface RemovedModels {
  removed: readonly { what: string; bytes: number }[];
  /** A line for each that stays, with the reason. */
  kept: readonly string[];
}

export interface ExecOptions {
  /** Aborted, the command is ended where it runs. */
  signal: AbortSignal;
  /** Called for each complete line as it arrives. */
  onLine: (line: string, stream: "stdout" | "stderr") => void;
}

/** One node of a target that has several. */
export interface NodeTarget {
  /** Its name in gpuctl.yaml. */
  node: string;
  driver: TargetDriver;
}

/** What one command has to do with the nodes of its environment. Driver, leases, records and audit all go by it. */
export interface Nodes {
  /** All of the environment, in the order of gpuctl.yaml. */
  readonly names: readonly string[];
  /** Those that the command was told to limit itself to; null when it is about all. Of the others only records are read. */
  readonly chosen: readonly string[] | null;
  /** Most nodes whose traffic is moved at the same time. */
  readonly parallel: number;
  /** Nodes given up for the rest of this command, with the reason. */
  readonly lost: ReadonlyMap<string, string>;
  /** From now on a node is neither asked nor changed, and needs neither lease nor record. */
  giveUp(node: string, because: string): void;
  /** Notes that something went wrong on a node. */
  blame(thrown: unknown, node: string): void;
  /** The node on which this went wrong, or what caused it; null when that is not known. */
  failedOn(thrown: unknown): string | null;
}

export interface LogLine {
  /** On targets of nodes. */
  node?: string;
  service: ServiceName;
  instance: InstanceId;
  /** The line as the service wrote it (usually one JSON object). */
  text: string;
}
