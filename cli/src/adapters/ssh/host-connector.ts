import { GpuctlError, UsageError } from "../../domain/errors.js";
import { ms, type Milliseconds } from "../../domain/units.js";
import type { HostConnector, RemoteHost } from "../../ports.js";
import {
  settingsOf,
  usualConfigFiles,
  type HostSettings,
  type PinnedKeys,
  type SshNode,
  type SshOptions,
  type SshSurroundings,
} from "./host-settings.js";
import type { HostShell } from "./host-shell.js";
import { findIdentities } from "./identities.js";
import { LocalShell } from "./local-shell.js";
import { connectNodeSsh } from "./node-ssh-shell.js";
import { connectOpenssh } from "./openssh-shell.js";
import { ShellHost } from "./shell-host.js";
import { Slots } from "./slots.js";
import { unlessAborted } from "./time-limit.js";
import { cannotConnect, sshCommand, type HostAddress } from "./unreachable.js";

/** Connections that are made at once; name servers and firewalls take more for an attack. */
const maxStarts = 10;
/** A host that answers nothing for 15 s, three times in a row, is gone. */
const usualKeepalive = { every: ms(15_000), times: 3 };

export interface ConnectorOptions extends Omit<SshSurroundings, "configFiles"> {
  nodes: readonly SshNode[];
  ssh: SshOptions;
  /** In place of the user's and the system's files of ssh. */
  configFile?: string;
  keepalive?: { every: Milliseconds; times: number };
}

/** How one host is reached, and the keys that it must show. */
interface Reach {
  address: HostAddress;
  settings: HostSettings;
  pinned: PinnedKeys | null;
}

/** Hosts of one environment, each with one connection that all who ask share. */
export class SshHostConnector implements HostConnector {
  readonly #options: ConnectorOptions;
  readonly #starts = new Slots(maxStarts);
  readonly #hosts = new Map<string, Promise<ShellHost>>();

  constructor(options: ConnectorOptions) {
    this.#options = options;
  }

  async connect(name: string, signal: AbortSignal): Promise<RemoteHost> {
    const host = await this.#known(name, signal);
    await host.ensureConnected(signal);
    return host;
  }

  async connectAsRoot(name: string, signal: AbortSignal): Promise<RemoteHost> {
    const host = (await this.#known(name, signal)).asRoot();
    await host.ensureConnected(signal);
    return host;
  }

  async close(): Promise<void> {
    const hosts = [...this.#hosts.values()];
    this.#hosts.clear();
    const closed = hosts.map(async (host) => (await host.catch(() => null))?.close());
    await Promise.all(closed);
  }

  #known(name: string, signal: AbortSignal): Promise<ShellHost> {
    signal.throwIfAborted();
    return unlessAborted(this.#hosts.get(name) ?? this.#make(name), signal);
  }

  /** A host is kept from then on; what could not be made is tried again by the next who asks. */
  #make(name: string): Promise<ShellHost> {
    const making = this.#host(name);
    this.#hosts.set(name, making);
    making.catch(() => this.#hosts.delete(name));
    return making;
  }

  async #host(name: string): Promise<ShellHost> {
    const { nodes, ssh, env, configFile } = this.#options;
    const node = nodes.find((each) => each.name === name);
    if (node === undefined)
      throw new UsageError(`there is no node ${name}`, { because: `the nodes are ${nodes.map((each) => each.name).join(", ")}` });
    if (node.host === "local") {
      const here: HostAddress = { node: name, user: "", host: "local", alias: "local", port: 0 };
      return new ShellHost(here, () => Promise.resolve(new LocalShell(env)));
    }
    const around = { ...this.#options, configFiles: configFile === undefined ? usualConfigFiles : [configFile] };
    const settings = await settingsOf(node, ssh, around, AbortSignal.timeout(10_000));
    const { user, hostName, port } = settings;
    const address: HostAddress = { node: name, user, host: hostName, alias: node.host, port };
    const connect = ssh.client === "openssh" ? this.#openssh.bind(this) : this.#nodeSsh.bind(this);
    const { hostKeys, pinnedBy = "the inventory" } = node;
    const pinned = hostKeys === undefined ? null : { keys: hostKeys, by: pinnedBy };
    const reach = { address, settings, pinned };
    return new ShellHost(address, (signal) => this.#limited(address, () => connect(reach, signal), signal));
  }

  /** One of the connections that may be made at once; whatever goes wrong is said in words. */
  async #limited(address: HostAddress, connect: () => Promise<HostShell>, signal: AbortSignal): Promise<HostShell> {
    const giveBack = await this.#starts.take(signal);
    try {
      return await connect();
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof GpuctlError) throw error;
      throw cannotConnect(address, (error as Error).message, [], error);
    } finally {
      giveBack();
    }
  }

  async #nodeSsh({ address, settings, pinned }: Reach, signal: AbortSignal): Promise<HostShell> {
    if (settings.proxy !== null)
      throw cannotConnect(address, `the ssh configuration leads to it by ${settings.proxy}, which node-ssh cannot follow`, [
        "set ssh: { client: openssh } for this environment in gpuctl.yaml",
        sshCommand(address),
      ]);
    const { ssh, keepalive = usualKeepalive } = this.#options;
    const { user, identityFiles, requiredIdentity: required, identitiesOnly: only, agent, hostKeyAlias } = settings;
    const identities = await findIdentities({ user, files: identityFiles, required, only, agent });
    const host = hostKeyAlias === null ? { name: address.host, port: address.port } : { name: hostKeyAlias, port: 22 };
    const { knownHosts: files, hashKnownHosts: hashed } = settings;
    const hostKeys = { host, files, acceptNew: ssh.acceptNew && pinned === null, hashed, pinned };
    return connectNodeSsh({ address, hostKeys, identities, connectTimeout: ssh.connectTimeout, keepalive }, signal);
  }

  #openssh({ address, settings, pinned }: Reach, signal: AbortSignal): Promise<HostShell> {
    const { ssh, keepalive = usualKeepalive, env, configFile = null } = this.#options;
    const identityFile = settings.requiredIdentity;
    const knownHosts = ssh.knownHosts === null ? null : settings.knownHosts[0];
    const { acceptNew, connectTimeout } = ssh;
    const common = { address, identityFile, connectTimeout, keepalive, configFile, env };
    return connectOpenssh({ ...common, knownHosts, acceptNew: acceptNew && pinned === null, pinned }, signal);
  }
}
