/** The hosts of an environment. */
import type { EnvironmentConfig } from "../domain/config/resolved.js";
import type { ComposeSettings } from "../domain/compose/node-settings.js";
import { defaultDataDirectory, HostLayout } from "../domain/compose/layout.js";
import { ms } from "../domain/units.js";
import type { HostConnector } from "../ports.js";
import { createTools, type ToolsRequest } from "../wiring.js";

/** Where the state of an environment is on one of its hosts, and how it is reached: it belongs to root, as all that is changed there. */
export function hostPlace(config: EnvironmentConfig, settings: ComposeSettings, node: string, hosts: HostConnector) {
  const dataDirectory = settings.dataDirectory ?? defaultDataDirectory;
  return {
    root: new HostLayout(dataDirectory, config.project, config.environment).root,
    connect: (signal: AbortSignal) => hosts.connectAsRoot(node, signal),
  };
}

/** The hosts of an environment that has some: one shared connection each, made on use, until `close`. */
export async function createHosts(
  config: EnvironmentConfig,
  settings: ComposeSettings,
  request: ToolsRequest,
): Promise<HostConnector> {
  const [{ SshHostConnector }, { executor }] = await Promise.all([
    import("../adapters/ssh/host-connector.js"),
    createTools(request),
  ]);
  const { client = "node-ssh", knownHosts = null, connectTimeout = ms(10_000) } = settings.ssh ?? {};
  const { acceptNewHostKeys: acceptNew = false } = request;
  return new SshHostConnector({
    nodes: Object.entries(settings.nodes).map(([name, node]) => ({ name, ...node })),
    ssh: { client, knownHosts, connectTimeout, acceptNew },
    env: request.env,
    executor,
    projectFile: config.projectFile,
  });
}
