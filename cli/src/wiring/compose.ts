/** What a use case of an environment on hosts touches: containers over SSH, records on the hosts themselves. */
import { dirname } from "node:path";
import { nodeSettings, nodesOf, requireOneIndex, type ComposeSettings } from "../domain/compose/node-settings.js";
import type { EnvironmentConfig, ServiceConfig } from "../domain/config/resolved.js";
import type { NodeLook } from "../adapters/targets/compose/gpu-trials.js";
import type { ComposeDriverOptions } from "../adapters/targets/compose/compose-driver.js";
import type { ImageSource, RegistryLogin } from "../adapters/targets/compose/images.js";
import { ConfigInvalid } from "../domain/errors.js";
import { serverOf } from "../domain/images/registry.js";
import { hubSourceOf } from "../domain/model-files.js";
import type { NodeFacts } from "../domain/preflight/facts.js";
import { nodeNeeds } from "../domain/preflight/needs-of.js";
import type { Clock, Context, HostConnector, NodeTarget, SecretReader } from "../ports.js";
import type { SeenNodes } from "../adapters/nodes/seen-nodes.js";
import type { CommandNodes } from "../adapters/nodes/command-nodes.js";
import { createTools, localStores, type NodeChoice, type ToolsRequest } from "../wiring.js";
import { createHosts, hostPlace } from "./hosts.js";

export async function composeContext(
  config: EnvironmentConfig,
  settings: ComposeSettings,
  request: ToolsRequest,
  choice: NodeChoice,
): Promise<Context> {
  requireOneIndex(config, settings);
  const [{ CommandNodes }, { SeenNodes }] = await Promise.all([
    import("../adapters/nodes/command-nodes.js"),
    import("../adapters/nodes/seen-nodes.js"),
  ]);
  const inUse = new CommandNodes(Object.keys(settings.nodes), choice);
  const [tools, { models }, hosts, { stateOnHosts }, { ownMachine }, { LocalSecretReader }, { HostTunnels }] = await Promise.all([
    createTools(request),
    localStores(config, request),
    createHosts(config, settings, request),
    import("../adapters/remote-state/state-on-hosts.js"),
    import("../adapters/remote-state/own-machine.js"),
    import("../adapters/secrets/local-secret-reader.js"),
    import("../adapters/ssh/host-tunnels.js"),
  ]);
  const { clock, author } = tools;
  const secrets = new LocalSecretReader({ ...request, executor: tools.executor, projectFile: config.projectFile });
  const images = await imagesOf(config, settings, request, secrets);
  const seen = new SeenNodes(clock);
  const nodes = await hostParts(config, settings, hosts, clock, seen);
  const tunnels = new HostTunnels(hosts, request.signal);
  const state = stateOnHosts({
    hosts: nodes.map(({ state: each }) => each),
    name: `${config.project}/${config.environment}`,
    owner: author,
    clock,
    here: ownMachine(),
    use: inUse,
  });
  const fetching = fetchingOf(config, settings, secrets);
  const { code, driver } = await codeAndDriver({ config, settings, request, tools, models, nodes, images, inUse, fetching });
  return {
    ...tools,
    config,
    driver,
    nodes: inUse,
    ...state,
    models,
    code,
    secrets,
    nodesSeen: () => seen.all(),
    tunnelTo: (node, port) => tunnels.to(node, port),
    close: async () => {
      await tunnels.close();
      await hosts.close();
    },
  };
}

type Nodes = Awaited<ReturnType<typeof hostParts>>;

/** For each node: its state, and its devices. @param seen  takes what is found on them */
async function hostParts(
  config: EnvironmentConfig,
  settings: ComposeSettings,
  hosts: HostConnector,
  clock: Clock,
  seen: SeenNodes,
) {
  const [{ HostState }, { NodeDevices }, { RemoteNodeInspector }] = await Promise.all([
    import("../adapters/remote-state/host-state.js"),
    import("../adapters/targets/compose/node-devices.js"),
    import("../adapters/preflight/remote-node-inspector.js"),
  ]);
  const inspector = new RemoteNodeInspector(hosts, clock);
  return Object.keys(settings.nodes).map((node) => {
    const needs = nodeNeeds(config, node, { imageBytes: null, sentBytes: null, modelBytes: null });
    const { root, connect } = hostPlace(config, settings, node, hosts);
    const inspect = async (): Promise<NodeFacts> => {
      const facts = await inspector.inspect(node, needs.dataDirectory, new AbortController().signal);
      seen.looked(node, facts);
      return facts;
    };
    const devices = new NodeDevices({ needs, inspect });
    const look: NodeLook = {
      needs,
      facts: () => devices.facts(),
      tryGpu: async (probe, signal) => {
        const tried = await inspector.tryGpu(node, probe, signal);
        seen.tried(node, await devices.facts(), tried);
        return tried;
      },
    };
    return {
      node,
      connect,
      // What undoes a deploy writes too: Ctrl-C must not end that.
      state: new HostState({ name: node, root, connect }),
      devices,
      look,
    };
  });
}

interface Images {
  services(device: "cpu" | "cuda"): Promise<string | null>;
  proxy: string;
  redis: string | null;
  /** How hosts get an image. */
  source(reference: string): ImageSource;
}

async function codeAndDriver(parts: {
  config: EnvironmentConfig;
  settings: ComposeSettings;
  request: ToolsRequest;
  tools: Awaited<ReturnType<typeof createTools>>;
  models: Context["models"];
  nodes: Nodes;
  images: Images;
  inUse: CommandNodes;
  fetching: ComposeDriverOptions["fetching"];
}): Promise<Pick<Context, "code" | "driver">> {
  const [{ ImageCodeSource }, { ComposeDriver }, { HostsDriver }, { CertificateFiles }, { DirectoryCa }] = await Promise.all([
    import("../adapters/code/image-code.js"),
    import("../adapters/targets/compose/compose-driver.js"),
    import("../adapters/targets/compose/hosts-driver.js"),
    import("../adapters/targets/compose/certificate.js"),
    import("../adapters/targets/compose/directory-ca.js"),
  ]);
  const { config, settings, request, tools, models, nodes, images, inUse, fetching } = parts;
  const runs = (service: ServiceConfig["service"]) => nodesOf(config, settings, service);
  const companions = [images.proxy, ...(images.redis === null ? [] : [images.redis])];
  const code = new ImageCodeSource({
    companions,
    gpuctlVersion: request.gpuctlVersion,
    imageFor: (device) => images.services(device),
    wantsGpu: async ({ service, device }) => {
      if (device.prefer === "cpu") return false;
      const having = nodes.filter(({ node }) => runs(service).includes(node) && inUse.inUse(node));
      const wanted = await Promise.all(having.map(({ devices }) => devices.wants(service)));
      return wanted.includes(true);
    },
  });
  const { tls } = settings;
  const base = dirname(config.projectFile);
  const ofFiles = { base, clock: tools.clock };
  const ca = tls?.mode === "acme" ? tls.directoryCa : undefined;
  const ownCa = ca === undefined ? null : new DirectoryCa({ ...ofFiles, file: ca });
  const certificate = tls?.mode === "files" ? new CertificateFiles({ ...tls, ...ofFiles }) : ownCa;
  const targets = nodes.map(({ node, state, devices, look, connect }): NodeTarget => {
    const driver = new ComposeDriver({
      connect,
      guard: () => state.guard(),
      node: nodeSettings(config, settings, node, images),
      clock: tools.clock,
      http: tools.http,
      progress: tools.progress,
      models,
      fetching,
      imageOf: (spec) => images.source(spec.code.file),
      companions: companions.map((reference) => images.source(reference)),
      certificate,
      gpus: devices,
      look,
    });
    return { node, driver };
  });
  const [first, ...rest] = targets;
  if (first === undefined) throw new ConfigInvalid(`environment ${config.environment} has no nodes`);
  return {
    code,
    driver: new HostsDriver({ hosts: [first, ...rest], nodesOf: runs, nodes: inUse, ingress: settings.ingress?.node }),
  };
}

/** How nodes fetch models, by the environment's `models`; null where they are sent. */
export function fetchingOf(
  config: EnvironmentConfig,
  settings: ComposeSettings,
  secrets: SecretReader,
): ComposeDriverOptions["fetching"] {
  const { delivery = "copy", hub, proxy, token } = settings.models ?? {};
  if (delivery === "copy") return null;
  return {
    sourceOf: (ref) => hubSourceOf(config.models, ref),
    settings: async () => ({
      ...(hub === undefined ? {} : { HF_ENDPOINT: hub }),
      ...(proxy === undefined ? {} : { HTTP_PROXY: proxy, HTTPS_PROXY: proxy }),
      ...(token === undefined ? {} : { HF_TOKEN: await secrets.read("models.token", token) }),
    }),
  };
}

/**
 * Images by gpuctl.yaml, else those of the services by gpuctl.lock.json. One that is named nowhere is an empty name, which nothing takes
 * for pinned.
 */
export async function imagesOf(
  config: EnvironmentConfig,
  settings: ComposeSettings,
  request: ToolsRequest,
  secrets: SecretReader,
): Promise<Images> {
  const [{ ModelLock }, { SavedImages }, { cacheHome }, { executor }] = await Promise.all([
    import("../adapters/models/model-lock.js"),
    import("../adapters/images/saved-images.js"),
    import("../adapters/state/directories.js"),
    createTools(request),
  ]);
  const { services = null, ingress = "", redis = null } = settings.images ?? {};
  const lock = new ModelLock(config.projectFile);
  const saved = new SavedImages(cacheHome(request.env), executor, request.progress);
  const login = loginOf(settings, secrets);
  return {
    services: async (device) => services ?? (await lock.pinnedServices(device)),
    proxy: ingress,
    redis,
    source: (reference) => ({
      reference,
      local: reference.startsWith("sha256:")
        ? { look: (signal) => saved.look(reference, signal), open: (signal) => saved.open(reference, signal) }
        : null,
      ...(login?.server === serverOf(reference) ? { login } : {}),
    }),
  };
}

/** The account at the environment's registry, read once and only when something is asked for there; null where gpuctl.yaml names none. */
function loginOf({ registry }: ComposeSettings, secrets: SecretReader): RegistryLogin | null {
  if (registry?.username === undefined || registry.password === undefined) return null;
  const { server, username, password } = registry;
  let read: Promise<string> | undefined;
  return { server, username, password: () => (read ??= secrets.read("registry.password", password)) };
}
