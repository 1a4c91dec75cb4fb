/** What `gpuctl doctor` looks with. */
import type { DoctorProject } from "../app/doctor.js";
import type { ComposeSettings } from "../domain/compose/node-settings.js";
import type { EnvironmentConfig } from "../domain/config/resolved.js";
import type { HostConnector, HostInspector, ModelStore } from "../ports.js";
import type { NodeLoads } from "../ports/node-inspector.js";
import { createContext, createTools, localStores, type ToolsRequest } from "../wiring.js";
import { createHosts, hostPlace } from "./hosts.js";

/** What `gpuctl doctor` looks with: this machine always, the project and its nodes when there is one. Ended by `close`. */
export interface DoctorTools {
  host: HostInspector;
  forProject: (config: EnvironmentConfig) => Promise<DoctorProject>;
  close: () => Promise<void>;
}

export async function createDoctor(request: ToolsRequest): Promise<DoctorTools> {
  const [
    { executor },
    { LocalHost },
    { PythonEnvironments, pythonOf },
    { PackageCodeSource },
    { cacheHome, directoriesOf },
    { StateLayout },
  ] = await Promise.all([
    createTools(request),
    import("../adapters/host/local-host.js"),
    import("../adapters/targets/process/python-environment.js"),
    import("../adapters/code/packaged-code.js"),
    import("../adapters/state/directories.js"),
    import("../adapters/targets/process/state-layout.js"),
  ]);
  const { env } = request;
  const [{ readKeeperIdentity }, { isRunning, LinuxProcessTable }] = await Promise.all([
    import("../adapters/targets/process/desired-file.js"),
    import("../adapters/state/process-identity.js"),
  ]);
  const host = new LocalHost({
    executor,
    env,
    pythonEnvironment: async () => {
      const code = await new PackageCodeSource(request.packageRoot, env).current().catch(() => null);
      const found = code === null ? null : await new PythonEnvironments(cacheHome(env)).find(code.lock);
      return found === null ? null : pythonOf(found);
    },
    keeperPid: async (config) => {
      const keeper = await readKeeperIdentity(new StateLayout(directoriesOf(config, env)).keeperFile);
      const processes = new LinuxProcessTable();
      return keeper !== null && keeper.bootId === processes.bootId && isRunning(processes, keeper) ? keeper.pid : null;
    },
  });
  const forProject = async (config: EnvironmentConfig): Promise<DoctorProject> => {
    const { models } = await localStores(config, request);
    const driver = config.target === "process" ? (await createContext(config, request)).driver : null;
    const store = { resolve: models.resolve.bind(models), verify: models.verifyQuickly.bind(models) };
    const project = { config, models: store, driver };
    if (config.targetSettings?.target !== "compose") return project;
    const [{ RemoteNodeInspector }, { HostState }, { ExistingAudit }, { ModelLock }, { clock, author, progress }] =
      await Promise.all([
        import("../adapters/preflight/remote-node-inspector.js"),
        import("../adapters/remote-state/host-state.js"),
        import("../adapters/remote-state/existing-audit.js"),
        import("../adapters/models/model-lock.js"),
        createTools(request),
      ]);
    const settings = config.targetSettings;
    const connector = await createHosts(config, settings, request);
    open.push(connector);
    const states = Object.keys(settings.nodes).map(
      (name) => new HostState({ name, ...hostPlace(config, settings, name, connector) }),
    );
    const audit = new ExistingAudit(states, author, clock);
    const loads = await nodeLoads(config, settings, request, { models, connector });
    const lock = new ModelLock(config.projectFile);
    const gpuImage = async (): Promise<string | null> => settings.images?.services ?? (await lock.pinnedServices("cuda"));
    const nodes = new RemoteNodeInspector(connector, clock);
    const acme = settings.tls?.mode === "acme" ? { unencrypted: () => unencrypted(config, request) } : {};
    return { ...project, nodes, loads, gpuImage, audit, progress, ...acme };
  };
  const open: HostConnector[] = [];
  const close = async (): Promise<void> => {
    await Promise.all(open.map((connector) => connector.close()));
  };
  return { host, forProject, close };
}

/** What the driver sees of certificates that listeners get by themselves. */
async function unencrypted(config: EnvironmentConfig, request: ToolsRequest): Promise<readonly string[]> {
  const context = await createContext(config, request);
  try {
    return (await context.driver.observe()).unencrypted ?? [];
  } finally {
    await context.close?.();
  }
}

/** What the next deploy would bring to the hosts, asked over the connections that are there. */
async function nodeLoads(
  config: EnvironmentConfig,
  settings: ComposeSettings,
  request: ToolsRequest,
  { models, connector }: { models: Pick<ModelStore, "resolve">; connector: HostConnector },
): Promise<NodeLoads> {
  const [{ NodeDeliveries }, { HostCommands }, { LocalSecretReader }, { imagesOf, fetchingOf }, { executor }] = await Promise.all(
    [
      import("../adapters/targets/compose/node-deliveries.js"),
      import("../adapters/targets/compose/host-commands.js"),
      import("../adapters/secrets/local-secret-reader.js"),
      import("./compose.js"),
      createTools(request),
    ],
  );
  const secrets = new LocalSecretReader({ ...request, executor, projectFile: config.projectFile });
  const images = await imagesOf(config, settings, request, secrets);
  return new NodeDeliveries({
    config,
    models,
    // Without a lease nothing can be changed through them.
    commandsOf: (node) => new HostCommands({ node, ...hostPlace(config, settings, node, connector), guard: () => "exit 1" }),
    servicesImage: (device) => images.services(device),
    companions: [images.proxy, images.redis ?? ""],
    source: (reference) => images.source(reference),
    fetching: fetchingOf(config, settings, secrets),
  });
}
