import { type ClientRequest, type IncomingMessage, request as httpRequest, type RequestOptions } from "node:http";
import { request as httpsRequest } from "node:https";
import { Failed, TargetUnreachable } from "../../domain/errors.js";
import type { HttpClient, HttpRequest, HttpResponse } from "../../ports.js";

const maxAnswerBytes = 256 * 1024 * 1024;

/** JSON over HTTP, one connection a request. `base` is `http(s)://host:port` or `unix:/path/to/socket`. */
export class NodeHttpClient implements HttpClient {
  async request(base: string, request: HttpRequest, signal?: AbortSignal): Promise<HttpResponse> {
    signal?.throwIfAborted();
    const deadline = AbortSignal.timeout(request.timeout);
    const stop = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
    try {
      const message = await send(base, request, stop);
      return { status: message.statusCode ?? 0, headers: flatten(message), body: parse(message, await read(message)) };
    } catch (error) {
      if (signal?.aborted === true) throw signal.reason;
      if (error instanceof Failed) throw error;
      throw unreachable(base, request, deadline.aborted, error);
    }
  }
}

function send(base: string, request: HttpRequest, signal: AbortSignal): Promise<IncomingMessage> {
  const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
  const headers: Record<string, string | number> = { ...request.headers, accept: "application/json", connection: "close" };
  if (body !== undefined) Object.assign(headers, { "content-type": "application/json", "content-length": body.length });
  return new Promise((resolve, reject) => {
    const outgoing = open(base, { method: request.method, headers, agent: false, signal }, request.path);
    outgoing.once("response", resolve);
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

function open(base: string, options: RequestOptions, path: string): ClientRequest {
  if (base.startsWith("unix:")) return httpRequest({ ...options, socketPath: base.slice("unix:".length), path });
  const url = new URL(path, base);
  return url.protocol === "https:" ? httpsRequest(url, options) : httpRequest(url, options);
}

async function read(message: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) throw new Failed("the answer was not read to its end", { because: "it is longer than 256 MiB" });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parse(message: IncomingMessage, text: string): unknown {
  if (!/^application\/(?:[\w.+-]+\+)?json\b/i.test(message.headers["content-type"] ?? "")) return text;
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new Failed("a service answered something that is not JSON", { because: "it said that it was", cause });
  }
}

function flatten(message: IncomingMessage): Readonly<Record<string, string>> {
  const pairs = Object.entries(message.headers).map(
    ([name, value]) => [name, Array.isArray(value) ? value.join(", ") : (value ?? "")] as const,
  );
  return Object.fromEntries(pairs);
}

function unreachable(base: string, request: HttpRequest, late: boolean, cause: unknown): TargetUnreachable {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return new TargetUnreachable(`${request.method} ${base}${request.path} got no answer`, {
    because: late ? `nothing came within ${request.timeout.toString()} ms` : explain(code, cause),
    nextSteps: ["gpuctl status", "gpuctl logs"],
    cause,
  });
}

function explain(code: string, cause: unknown): string {
  if (code === "ECONNREFUSED" || code === "ENOENT") return "nothing listens there";
  if (code === "ECONNRESET" || code === "EPIPE") return "the connection was cut while the request was under way";
  return cause instanceof Error ? cause.message : String(cause);
}
