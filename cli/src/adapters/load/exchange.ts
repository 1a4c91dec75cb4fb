import type { Dispatcher } from "undici";
import type { LoadPlan } from "../../ports.js";

type Headers = Readonly<Record<string, string | string[] | undefined>>;

const tailBytes = 256;

/** How an exchange ended. */
export interface Ending {
  outcome: string;
  done: number;
  headers: Headers;
  tail: string;
  bytes: number;
  /** The whole body, for those that are kept. */
  body: string | null;
}

/**
 * One request on its way. The end is stamped when the last byte is here, before anything is parsed: parsing a large answer
 * takes milliseconds and would be charged to every other request.
 */
export class Exchange implements Dispatcher.DispatchHandler {
  readonly ordinal: number;
  readonly due: number;
  readonly dispatched: number;
  readonly items: number;
  sent = NaN;
  finished = false;
  readonly #keep: boolean;
  readonly #now: () => number;
  readonly #onEnd: (exchange: Exchange, ending: Ending) => void;
  #controller: Dispatcher.DispatchController | undefined;
  #status = 0;
  #headers: Headers = {};
  #bytes = 0;
  #chunks: Buffer[] = [];

  constructor(
    facts: { ordinal: number; due: number; dispatched: number; items: number; keep: boolean },
    now: () => number,
    onEnd: (exchange: Exchange, ending: Ending) => void,
  ) {
    this.ordinal = facts.ordinal;
    this.due = facts.due;
    this.dispatched = facts.dispatched;
    this.items = facts.items;
    this.#keep = facts.keep;
    this.#now = now;
    this.#onEnd = onEnd;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // Its deadline may have passed while it waited for a connection.
    if (this.finished) controller.abort(new Error("deadline"));
    else this.sent = this.#now();
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: Headers): void {
    this.#status = status;
    this.#headers = headers;
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (!this.#keep && this.#chunks.length === 2) this.#chunks.shift();
    this.#chunks.push(chunk);
  }

  onResponseEnd(): void {
    const ok = this.#status >= 200 && this.#status < 300;
    this.#end(ok ? "ok" : `http ${String(this.#status)}`, this.#now());
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#end(nameOf(error), this.#now());
  }

  /** Gives up on it: the deadline has passed. */
  timeOut(): void {
    this.#end("timeout", NaN);
    this.#controller?.abort(new Error("deadline"));
  }

  #end(outcome: string, done: number): void {
    if (this.finished) return;
    this.finished = true;
    const last = Buffer.concat(this.#keep ? this.#chunks.slice(-2) : this.#chunks);
    const body = this.#keep && outcome === "ok" ? Buffer.concat(this.#chunks).toString("utf8") : null;
    this.#chunks = [];
    const tail = last.subarray(Math.max(0, last.length - tailBytes)).toString("latin1");
    this.#onEnd(this, { outcome, done, headers: this.#headers, tail, bytes: this.#bytes, body });
  }
}

/** Sends an exchange's request through the pool. */
export function dispatch(pool: Dispatcher, exchange: Exchange, plan: LoadPlan, request: { path: string; body: string }): void {
  const headers = { "content-type": "application/json", ...plan.headers };
  pool.dispatch({ method: "POST", path: request.path, headers, body: request.body }, exchange);
}

/** What went wrong on the wire, in words that are the same for every way in which the client library says it. */
function nameOf(error: Error): string {
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  const known: Readonly<Record<string, string>> = {
    ECONNRESET: "connection reset",
    EPIPE: "connection reset",
    UND_ERR_SOCKET: "connection reset",
    ECONNREFUSED: "connection refused",
    ENOTFOUND: "host not found",
    UND_ERR_CONNECT_TIMEOUT: "connect timeout",
    UND_ERR_RES_CONTENT_LENGTH_MISMATCH: "short body",
  };
  return known[code] ?? (code === "" ? error.message : code.startsWith("HPE_") ? "broken http" : code);
}
