/** What `gpuctl host` works with: the hosts of an environment, and the script that prepares them. */
import type { ComposeSettings } from "../domain/compose/node-settings.js";
import type { EnvironmentConfig } from "../domain/config/resolved.js";
import { UsageError } from "../domain/errors.js";
import { ms } from "../domain/units.js";
import type { Clock, Progress } from "../ports.js";
import type { HostKeys, HostPreparer, TextFiles } from "../ports/host-preparer.js";
import { createTools, type ToolsRequest } from "../wiring.js";
import { createHosts } from "./hosts.js";

/** Ended by `close`. */
export interface HostTools {
  config: EnvironmentConfig;
  preparer: HostPreparer;
  files: TextFiles;
  clock: Clock;
  progress: Progress;
  signal: AbortSignal;
  close: () => Promise<void>;
}

export async function createHostTools(config: EnvironmentConfig, request: ToolsRequest, cwd: string): Promise<HostTools> {
  const settings = config.targetSettings;
  if (settings?.target !== "compose") throw noHosts(config);
  const [{ ScriptOnHost }, { DiskTextFiles }, hosts, { clock }] = await Promise.all([
    import("../adapters/host-prepare/script-on-host.js"),
    import("../adapters/host-prepare/text-files.js"),
    createHosts(config, settings, request),
    createTools(request),
  ]);
  return {
    config,
    preparer: new ScriptOnHost({ hosts, packageRoot: request.packageRoot }),
    files: new DiskTextFiles(cwd),
    clock,
    progress: request.progress,
    signal: request.signal,
    close: () => hosts.close(),
  };
}

/** What `host add` works with: the keys of a host that is in no environment yet. */
export async function createAddTools(
  config: EnvironmentConfig,
  request: ToolsRequest,
): Promise<{ keys: HostKeys; files: TextFiles; signal: AbortSignal }> {
  const settings = config.targetSettings;
  if (settings?.target !== "compose") throw noHosts(config);
  const { DiskTextFiles } = await import("../adapters/host-prepare/text-files.js");
  const keys = await createHostKeys(config.projectFile, settings.ssh ?? {}, request);
  return { keys, files: new DiskTextFiles("/"), signal: request.signal };
}

/** @param projectFile  file that relative paths of `ssh` count from */
export async function createHostKeys(
  projectFile: string,
  ssh: NonNullable<ComposeSettings["ssh"]>,
  request: ToolsRequest,
): Promise<HostKeys> {
  const [{ ScannedHostKeys }, { usualConfigFiles }, { executor }] = await Promise.all([
    import("../adapters/host-prepare/shown-keys.js"),
    import("../adapters/ssh/host-settings.js"),
    createTools(request),
  ]);
  const { client = "node-ssh", knownHosts = null, connectTimeout = ms(10_000) } = ssh;
  const { acceptNewHostKeys: acceptNew = false } = request;
  const around = { env: request.env, executor, projectFile, configFiles: usualConfigFiles };
  return new ScannedHostKeys({ client, knownHosts, connectTimeout, acceptNew }, around);
}

function noHosts({ environment, target }: EnvironmentConfig): UsageError {
  return new UsageError(`environment ${environment} has no hosts`, {
    because: `its target is ${target}; hosts are those of the target compose`,
    nextSteps: ["gpuctl host … -e ENVIRONMENT, with one that has hosts", "gpuctl init --target compose"],
  });
}
