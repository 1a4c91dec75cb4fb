/** Only this file and those in wiring/ pick adapters. Everything is imported on use: a command pays for what it touches. */
import { hostname, userInfo } from "node:os";
import type { Redaction } from "./domain/redaction.js";
import type { EnvironmentConfig } from "./domain/config/resolved.js";
import { requireDriver } from "./domain/drivers.js";
import { UsageError } from "./domain/errors.js";
import type { Io } from "./io.js";
import type {
  Clock,
  ConfigFiles,
  Context,
  DocumentReader,
  Executor,
  HttpClient,
  LoadGenerator,
  LoadHost,
  ModelTools,
  Progress,
} from "./ports.js";

/** What a command knows before any configuration is read. */
export interface ToolsRequest {
  env: Io["env"];
  progress: Progress;
  /** Aborted on SIGINT and SIGTERM. */
  signal: AbortSignal;
  gpuctlVersion: string;
  /** Whether the key of a host seen for the first time is trusted and remembered, by a flag; never one that changed. */
  acceptNewHostKeys?: boolean;
  /** Directory of the installed package (the one with package.json): wheel, locks and schema are found from here. */
  packageRoot: string;
  /** Takes the secrets that are read, so that nothing tells them. */
  redaction: Redaction;
}

/** Adapters that need no environment: for commands such as `doctor`, `init` and `bench self-test`. */
export interface Tools {
  clock: Clock;
  executor: Executor;
  http: HttpClient;
  progress: Progress;
  signal: AbortSignal;
  author: string;
  gpuctlVersion: string;
}

export async function createTools(request: ToolsRequest): Promise<Tools> {
  const [{ SystemClock }, { LocalExecutor }, { NodeHttpClient }] = await Promise.all([
    import("./adapters/clock/system-clock.js"),
    import("./adapters/exec/local-executor.js"),
    import("./adapters/http/node-http-client.js"),
  ]);
  const { progress, signal, gpuctlVersion } = request;
  return {
    clock: new SystemClock(),
    executor: new LocalExecutor(request.env),
    http: new NodeHttpClient(),
    progress,
    signal,
    author: author(),
    gpuctlVersion,
  };
}

/** What a person chose of the nodes of an environment. */
export interface NodeChoice {
  /** Names of the nodes that a command is limited to; all without it. */
  hosts?: readonly string[];
  /** Most nodes whose traffic is moved at the same time; one without it. */
  parallel?: number;
}

/** Everything a use case of one environment may touch. Throws UsageError for a choice of nodes where there are none. */
export async function createContext(config: EnvironmentConfig, request: ToolsRequest, choice: NodeChoice = {}): Promise<Context> {
  const { redactedContext } = await import("./adapters/redaction/redacted-context.js");
  return redactedContext(await targetContext(config, request, choice), request.redaction);
}

async function targetContext(config: EnvironmentConfig, request: ToolsRequest, choice: NodeChoice): Promise<Context> {
  requireDriver(config.target, config.environment);
  if (config.targetSettings?.target === "compose") {
    const { composeContext } = await import("./wiring/compose.js");
    return composeContext(config, config.targetSettings, request, choice);
  }
  const flag = choice.hosts === undefined ? (choice.parallel === undefined ? null : "--parallel") : "--hosts";
  if (flag !== null)
    throw new UsageError(`${flag} is for environments with nodes`, {
      because: `environment ${config.environment} has the target ${config.target}, which is this machine alone`,
    });
  return processContext(config, request);
}

async function processContext(config: EnvironmentConfig, request: ToolsRequest): Promise<Context> {
  const [tools, stores, { ProcessDriver }] = await Promise.all([
    createTools(request),
    localStores(config, request),
    import("./adapters/targets/process/process-driver.js"),
  ]);
  const { directories, models, code, processes } = stores;
  const [{ FileReleaseStore }, { FileLeaseStore }, { FileAuditLog }, { LocalSecretReader }] = await Promise.all([
    import("./adapters/releases/file-release-store.js"),
    import("./adapters/leases/file-lease-store.js"),
    import("./adapters/audit/file-audit-log.js"),
    import("./adapters/secrets/local-secret-reader.js"),
  ]);
  const { clock, http } = tools;
  const { state } = directories;
  const audit = new FileAuditLog(state, tools.author, clock);
  return {
    ...tools,
    config,
    driver: new ProcessDriver({ directories, env: request.env, clock, http, models, code, processes }),
    releases: new FileReleaseStore(state),
    leases: new FileLeaseStore({
      state,
      name: `${config.project}/${config.environment}`,
      owner: tools.author,
      clock,
      audit,
      processes,
    }),
    audit,
    models,
    code,
    secrets: new LocalSecretReader({ ...request, executor: tools.executor, projectFile: config.projectFile }),
  };
}

/** What deploys and `gpuctl models` share: directories, models and code on this machine. */
export async function localStores(config: EnvironmentConfig, request: ToolsRequest) {
  const [{ directoriesOf }, { FileModelStore }, { ModelLock }, { HashCache }, { PackageCodeSource }, { LinuxProcessTable }] =
    await Promise.all([
      import("./adapters/state/directories.js"),
      import("./adapters/models/file-model-store.js"),
      import("./adapters/models/model-lock.js"),
      import("./adapters/models/file-hash.js"),
      import("./adapters/code/packaged-code.js"),
      import("./adapters/state/process-identity.js"),
    ]);
  const directories = directoriesOf(config, request.env);
  const lock = new ModelLock(config.projectFile);
  return {
    directories,
    lock,
    models: new FileModelStore(directories.models, lock, new HashCache(directories.cache)),
    code: new PackageCodeSource(request.packageRoot, request.env),
    processes: new LinuxProcessTable(),
  };
}

/** What `gpuctl models` works with, for any target: models and the Python environment that builds them are on this machine. */
export async function createModelTools(config: EnvironmentConfig, request: ToolsRequest): Promise<ModelTools> {
  const [
    { clock, executor },
    { directories, lock, models, code },
    { VenvRuntime },
    { PythonEnvironments },
    { packageLock, lockedHashes },
    { cachedWheel },
    { DiskModelUses },
    { stateHome },
  ] = await Promise.all([
    createTools(request),
    localStores(config, request),
    import("./adapters/python/venv-runtime.js"),
    import("./adapters/targets/process/python-environment.js"),
    import("./adapters/models/package-locks.js"),
    import("./adapters/code/place-wheel.js"),
    import("./adapters/models/model-users.js"),
    import("./adapters/state/directories.js"),
  ]);
  const { progress, signal, env } = request;
  const environments = new PythonEnvironments(directories.cache);
  const lockOf = (name: string): Promise<string> => packageLock(request.packageRoot, config.projectFile, name);
  return {
    config,
    models,
    lock,
    uses: new DiskModelUses({ store: directories.models, states: stateHome(env) }, () => clock.now().getTime()),
    python: new VenvRuntime({ environments, code, executor, clock, progress, signal, env }),
    executor,
    clock,
    progress,
    signal,
    packageLock: lockOf,
    matching: async (name, source) => {
      const hashes = source.source === "package" ? await lockedHashes(await lockOf(source.package)) : new Set<string>();
      return models.matching(name, source, hashes);
    },
    paths: { store: directories.models, wheel: await cachedWheel(await code.current(), directories.cache, clock.now()) },
  };
}

/** What the offline programs of `gpuctl index` run with, and the state directory of their environment. */
export async function createIndexTools(
  config: EnvironmentConfig,
  request: ToolsRequest,
): Promise<{ tools: ModelTools; state: string }> {
  const [tools, { directoriesOf }] = await Promise.all([
    createModelTools(config, request),
    import("./adapters/state/directories.js"),
  ]);
  return { tools, state: directoriesOf(config, request.env).state };
}

/** gpuctl.yaml and the user file. */
export async function configFiles(cwd: string): Promise<ConfigFiles> {
  const { DiskConfigFiles } = await import("./adapters/config/disk-config-files.js");
  return new DiskConfigFiles(cwd);
}

/** What makes load, and the machine it is made on. */
export async function createLoadTools(): Promise<{ load: LoadGenerator; host: LoadHost }> {
  const [{ UndiciLoadGenerator }, { loadHost }] = await Promise.all([
    import("./adapters/load/undici-load-generator.js"),
    import("./adapters/load/load-host.js"),
  ]);
  return { load: new UndiciLoadGenerator(), host: loadHost() };
}

/** Reads documents; paths count from `cwd`, the names of sources from `base`. */
export async function createDocumentReader(cwd: string, base: string): Promise<DocumentReader> {
  const { DiskDocuments } = await import("./adapters/documents/disk-documents.js");
  return new DiskDocuments(cwd, base);
}

/** Writes a result to a file that the user named. */
export async function writeReport(cwd: string, file: string, report: unknown): Promise<void> {
  const { writeJsonReport } = await import("./adapters/documents/json-report.js");
  await writeJsonReport(cwd, file, report);
}

/** The progress renderer of this terminal. */
export async function terminalProgress(io: Io, options: { quiet: boolean }): Promise<Progress & { end(): void }> {
  const { TerminalProgress } = await import("./adapters/terminal/progress.js");
  return new TerminalProgress(io.stderr, {
    env: io.env,
    isTTY: io.stderrIsTTY,
    columns: io.columns,
    quiet: options.quiet,
    now: () => performance.now(),
    later(delay, callback) {
      const timer = setTimeout(callback, delay).unref();
      return () => {
        clearTimeout(timer);
      };
    },
  });
}

/** `user@host`, for records, leases and the audit. A container may run as a number without a name. */
function author(): string {
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    return `uid-${String(process.getuid?.() ?? "unknown")}@${hostname()}`;
  }
}
