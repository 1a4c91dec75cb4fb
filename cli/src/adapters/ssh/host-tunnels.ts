import { ms } from "../../domain/units.js";
import type { HostConnector, Tunnel } from "../../ports.js";

/** Time for the connection to the host; the port is asked when the tunnel is used. */
const patience = ms(30_000);

/** Tunnels to ports of hosts, one each, for as long as a command runs. */
export class HostTunnels {
  readonly #hosts: Pick<HostConnector, "connect">;
  readonly #signal: AbortSignal;
  readonly #open = new Map<string, Promise<Tunnel>>();

  /** @param signal  that of the command */
  constructor(hosts: Pick<HostConnector, "connect">, signal: AbortSignal) {
    this.#hosts = hosts;
    this.#signal = signal;
  }

  /** Base address, on this machine, of a port that a node answers on for itself. */
  async to(node: string, port: number): Promise<string> {
    const key = `${node}:${port.toString()}`;
    const tunnel = this.#open.get(key) ?? this.#make(node, port);
    this.#open.set(key, tunnel);
    return (await tunnel).base;
  }

  async close(): Promise<void> {
    const made = await Promise.allSettled(this.#open.values());
    this.#open.clear();
    await Promise.all(made.map(async (each) => (each.status === "fulfilled" ? each.value.close() : undefined)));
  }

  async #make(node: string, port: number): Promise<Tunnel> {
    const host = await this.#hosts.connect(node, this.#signal);
    return host.tunnel({ port }, { deadline: patience, signal: this.#signal });
  }
}
