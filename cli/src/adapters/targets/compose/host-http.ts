import { TargetUnreachable } from "../../../domain/errors.js";
import { readUpstreams, type UpstreamState } from "../../../domain/compose/caddy-output.js";
import { readTrafficView, type TrafficView } from "../../../domain/compose/traffic.js";
import { ms } from "../../../domain/units.js";
import type { HttpClient, HttpRequest, HttpResponse } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";

const tunnelDeadline = ms(10_000);
const askDeadline = ms(3000);

/** HTTP to unix sockets of a host, each request over a tunnel of its own: nothing of it stays on this machine. */
export class HostHttp {
  readonly #commands: HostCommands;
  readonly #http: HttpClient;

  constructor(commands: HostCommands, http: HttpClient) {
    this.#commands = commands;
    this.#http = http;
  }

  async request(socket: string, request: HttpRequest, signal?: AbortSignal): Promise<HttpResponse> {
    const host = await this.#commands.host(signal);
    const tunnel = await host.tunnel({ socket }, { deadline: tunnelDeadline, ...(signal && { signal }) });
    try {
      return await this.#http.request(tunnel.base, request, signal);
    } catch (error) {
      if (!(error instanceof TargetUnreachable)) throw error;
      throw new TargetUnreachable(`${request.method} ${request.path} got no answer on ${this.#commands.node}`, {
        because: `nobody answers at ${socket} there, or not in time`,
        nextSteps: ["gpuctl status", "gpuctl logs"],
        cause: error,
      });
    } finally {
      await tunnel.close();
    }
  }

  /** What an instance says about its gate; null when it does not answer. */
  async traffic(socket: string): Promise<TrafficView | null> {
    const answer = await this.#ask(socket, "/private/status");
    return answer?.status === 200 ? readTrafficView(answer.body) : null;
  }

  /** Requests in flight as the proxy counts them; null when it cannot be asked. */
  async upstreams(adminSocket: string): Promise<readonly UpstreamState[] | null> {
    const answer = await this.#ask(adminSocket, "/reverse_proxy/upstreams");
    return answer?.status === 200 ? readUpstreams(JSON.stringify(answer.body)) : null;
  }

  async #ask(socket: string, path: string): Promise<HttpResponse | null> {
    try {
      return await this.request(socket, { method: "GET", path, timeout: askDeadline });
    } catch (error) {
      if (error instanceof TargetUnreachable) return null;
      throw error;
    }
  }
}
