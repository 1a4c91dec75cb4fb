/** The only file that picks adapters. Everything is imported on use: a command pays for what it touches. */
import { hostname, userInfo } from "node:os";
import type { EnvironmentConfig } from "./domain/config/resolved.js";
import { ConfigInvalid } from "./domain/errors.js";
import type { Io } from "./io.js";
import type { Clock, ConfigFiles, Context, Executor, HttpClient, Progress } from "./ports.js";

/** What a command knows before any configuration is read. */
export interface ToolsRequest {
  env: Io["env"];
  progress: Progress;
  /** Aborted on SIGINT and SIGTERM. */
  signal: AbortSignal;
  gpuctlVersion: string;
  /** Directory of the installed package (the one with package.json): wheel, locks and schema are found from here. */
  packageRoot: string;
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

/** Everything a use case of one environment may touch. */
export async function createContext(config: EnvironmentConfig, request: ToolsRequest): Promise<Context> {
  await createTools(request);
  switch (config.target) {
    case "process":
    case "compose":
    case "swarm":
    case "kubernetes":
      throw new ConfigInvalid(`the target ${config.target} of environment ${config.environment} has no driver in this version`, {
        because: "its configuration is understood and validated, but only the process target can be planned and deployed yet",
        nextSteps: ["gpuctl init --target process", "or set `target: process` for this environment in gpuctl.yaml"],
      });
  }
}

/** gpuctl.yaml and the user file. */
export async function configFiles(cwd: string): Promise<ConfigFiles> {
  const { DiskConfigFiles } = await import("./adapters/config/disk-config-files.js");
  return new DiskConfigFiles(cwd);
}

/** Configuration files on this machine. */
export async function configFiles(cwd: string): Promise<ConfigFiles> {
  const { DiskConfigFiles } = await import("./adapters/config/disk-config-files.js");
  return new DiskConfigFiles(cwd);
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
