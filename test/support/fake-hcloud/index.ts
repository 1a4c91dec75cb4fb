/**
 * A Hetzner Cloud API on this machine's loopback: real HTTP, made-up prices, no network. It keeps one project in memory and answers as
 * docs.hetzner.cloud describes (pages, errors, rate limit headers, actions, label selectors, locks), so that clients of the API can be
 * tested without an account. It proves the client; the provider itself is more than this.
 *
 * ```ts
 * const hcloud = await startFakeHcloud({ actionMs: 50 });
 * // HCLOUD_ENDPOINT=hcloud.endpoint HCLOUD_TOKEN=hcloud.token
 * hcloud.catalogue.serverTypes[0]!.locations[0]!.available = false;
 * hcloud.inject({ method: "POST", path: /^\/servers$/, status: 503, code: "unavailable", times: 2 });
 * hcloud.world.list("servers"); hcloud.requests;
 * await hcloud.close();
 * ```
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { json } from "node:stream/consumers";
import { setTimeout as wait } from "node:timers/promises";
import { catalogue, type Catalogue } from "./catalogue.js";
import { commonRoutes } from "./routes-common.js";
import { networkRoutes } from "./routes-network.js";
import { readRoutes } from "./routes-read.js";
import { serverRoutes } from "./routes-servers.js";
import type { Call, Reply } from "./routing.js";
import { ApiError, World, type WorldOptions } from "./world.js";

/** Something that goes wrong, for requests that fit. */
export interface Fault {
  method?: string;
  /** Matched against the path below `/v1`. */
  path?: RegExp;
  /** How often; once by default. */
  times?: number;
  status: number;
  code: string;
  message?: string;
  details?: unknown;
  /** Cuts the connection in place of an answer. */
  cut?: boolean;
}

export interface FakeHcloudOptions extends Partial<WorldOptions> {
  /** Requests an hour before 429; 3600 by default, as the API has it. */
  rateLimit?: number;
  /** Before every answer, milliseconds. */
  latencyMs?: number;
}

export interface FakeHcloud {
  /** With `/v1`, for HCLOUD_ENDPOINT. */
  endpoint: string;
  /** The only token that is accepted: 64 characters, as the provider's plugin asks. */
  token: string;
  /** What is there; tests may look and change. */
  world: World;
  catalogue: Catalogue;
  /** Every request in the order of arrival, without its token. */
  requests: { method: string; path: string; query: string; body: Record<string, unknown>; status: number }[];
  /** The next requests that fit fail like this. */
  inject(fault: Fault): void;
  close(): Promise<void>;
}

const routes = [...readRoutes, ...serverRoutes, ...networkRoutes, ...commonRoutes];
export const fakeToken = "fake".repeat(16);

/** Starts one on a free port of 127.0.0.1. */
export async function startFakeHcloud(options: FakeHcloudOptions = {}): Promise<FakeHcloud> {
  const { rateLimit = 3600, latencyMs = 0, actionMs = 0, limits = {} } = options;
  const world = new World({ actionMs, limits });
  const goods = catalogue();
  const faults: (Fault & { times: number })[] = [];
  const requests: FakeHcloud["requests"] = [];
  const bucket = new RateLimit(rateLimit);
  const answer = async (request: IncomingMessage): Promise<Reply | "cut"> => {
    const call = await callOf(request, world, goods);
    const entry = { method: call.method, path: call.path, query: call.query.toString(), body: call.body, status: 0 };
    requests.push(entry);
    await wait(latencyMs);
    const reply = request.headers.authorization === `Bearer ${fakeToken}` ? replyTo(call, faults, bucket) : unauthorized;
    entry.status = reply === "cut" ? 0 : reply.status;
    return reply;
  };
  const server = createServer((request, response) => {
    void answer(request).then((reply) => {
      send(response, reply, bucket);
    });
  });
  const port = await listen(server);
  return {
    endpoint: `http://127.0.0.1:${port}/v1`,
    token: fakeToken,
    world,
    catalogue: goods,
    requests,
    inject: (fault) => void faults.push({ ...fault, times: fault.times ?? 1 }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
}

const unauthorized: Reply = errorReply(new ApiError(401, "unauthorized", "unable to authenticate"));

function errorReply({ status, code, message, details }: ApiError): Reply {
  return { status, body: { error: { code, message, details } } };
}

function replyTo(call: Call, faults: (Fault & { times: number })[], bucket: RateLimit): Reply | "cut" {
  if (!bucket.take()) return errorReply(new ApiError(429, "rate_limit_exceeded", "limit of 3600 requests per hour reached"));
  const fault = faults.find(
    ({ times, method, path }) => times > 0 && (method ?? call.method) === call.method && (path ?? /^/).test(call.path),
  );
  if (fault !== undefined) {
    fault.times -= 1;
    if (fault.cut === true) return "cut";
    return errorReply(new ApiError(fault.status, fault.code, fault.message ?? fault.code, fault.details));
  }
  try {
    return route(call);
  } catch (error) {
    if (error instanceof ApiError) return errorReply(error);
    throw error;
  }
}

function route(call: Call): Reply {
  for (const [method, pattern, handle] of routes) {
    const match = method === call.method ? pattern.exec(call.path) : null;
    if (match !== null) return handle({ ...call, params: match.slice(1) });
  }
  throw new ApiError(404, "not_found", `no such route: ${call.method} ${call.path}`);
}

async function callOf(request: IncomingMessage, world: World, goods: Catalogue): Promise<Call> {
  const url = new URL(request.url ?? "/", "http://127.0.0.1");
  const method = request.method ?? "GET";
  const hasBody = Number(request.headers["content-length"] ?? 0) > 0;
  const body = (hasBody ? await json(request) : {}) as Record<string, unknown>;
  const path = url.pathname.replace(/^\/v1(?=\/)/, "");
  return { method, path, query: url.searchParams, body, params: [], world, catalogue: goods };
}

function send(response: ServerResponse, reply: Reply | "cut", bucket: RateLimit): void {
  if (reply === "cut") {
    response.destroy();
    return;
  }
  response.writeHead(reply.status, {
    ...(reply.body === undefined ? {} : { "content-type": "application/json" }),
    ...bucket.headers(),
  });
  response.end(reply.body === undefined ? undefined : JSON.stringify(reply.body));
}

const listen = (server: Server): Promise<number> =>
  new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    });
  });

/** So many requests at once, one more every second. */
class RateLimit {
  readonly #limit: number;
  #left: number;
  #since = Date.now();

  constructor(limit: number) {
    this.#limit = limit;
    this.#left = limit;
  }

  take(): boolean {
    const seconds = Math.floor((Date.now() - this.#since) / 1000);
    this.#left = Math.min(this.#limit, this.#left + seconds);
    this.#since += seconds * 1000;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }

  headers(): Record<string, string> {
    const reset = Math.ceil(Date.now() / 1000) + (this.#limit - this.#left);
    return {
      "RateLimit-Limit": String(this.#limit),
      "RateLimit-Remaining": String(this.#left),
      "RateLimit-Reset": String(reset),
    };
  }
}
