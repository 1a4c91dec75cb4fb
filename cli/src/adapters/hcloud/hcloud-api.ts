import type { z } from "zod";
import type { CloudKind, CloudResource, PriceList, ServerType } from "../../domain/cost/cloud.js";
import { Failed, PreflightRefused, TargetUnreachable } from "../../domain/errors.js";
import { ms } from "../../domain/units.js";
import type { Clock, HttpClient, HttpRequest, HttpResponse } from "../../ports.js";
import type { Hcloud } from "../../ports/hcloud.js";
import {
  actionAnswer,
  errorAnswer,
  pagination,
  priceListOf,
  pricingAnswer,
  resourceOf,
  serverTypeOf,
  serverTypePage,
  thingsOf,
} from "./answers.js";

const requestTimeout = ms(30_000);
/** The API gives at most so many of a list at once. */
const pageSize = 50;
/** Waits between attempts at what the API will take later: it is busy, or out of order. */
const waits = [500, 1000, 2000, 4000].map(ms);
const actionPoll = ms(500);
const actionPolls = 240;

export interface HcloudApiOptions {
  http: HttpClient;
  clock: Clock;
  signal: AbortSignal;
  /** With its version, such as `https://api.hetzner.cloud/v1`. */
  endpoint: string;
  /** Read when it is needed, and only then. */
  token: () => Promise<string>;
}

/** Speaks to the API by HTTP; the token is in a header and nowhere else. */
export class HcloudApi implements Hcloud {
  readonly #options: HcloudApiOptions;

  constructor(options: HcloudApiOptions) {
    this.#options = options;
  }

  async serverTypes(): Promise<readonly ServerType[]> {
    const pages = await this.#pages("/server_types", serverTypePage);
    return pages.flatMap(({ server_types: types }) => types.map(serverTypeOf));
  }

  async prices(): Promise<PriceList> {
    return priceListOf(read(pricingAnswer, await this.#ask({ method: "GET", path: "/pricing" })));
  }

  async list(kind: CloudKind, selector: string): Promise<readonly CloudResource[]> {
    const pages = await this.#pages(`/${kind}?label_selector=${encodeURIComponent(selector)}`, thingsOf(kind));
    return pages.flatMap((page) => (page[kind] ?? []).map((one) => resourceOf(kind, one)));
  }

  async remove(kind: CloudKind, id: number): Promise<void> {
    const response = await this.#send({ method: "DELETE", path: `/${kind}/${id}` });
    if (response.status === 404) return;
    this.#refuse(response);
    const action = actionAnswer.safeParse(response.body);
    if (action.success) await this.#ended(action.data);
  }

  async #ended(answer: z.infer<typeof actionAnswer>): Promise<void> {
    const { clock, signal } = this.#options;
    let { action } = answer;
    for (let polls = 0; action.status === "running" && polls < actionPolls; polls++) {
      await clock.sleep(actionPoll, signal);
      action = read(actionAnswer, await this.#ask({ method: "GET", path: `/actions/${action.id}` })).action;
    }
    if (action.status === "success") return;
    const because = action.error == null ? "it did not end within two minutes" : `${action.error.message} (${action.error.code})`;
    throw new Failed("the provider did not end an action", { because, data: { action: action.id } });
  }

  async #pages<Schema extends z.ZodType>(path: string, schema: Schema): Promise<z.output<Schema>[]> {
    const found: z.output<Schema>[] = [];
    for (let next: number | null = 1; next !== null;) {
      const query = `${path.includes("?") ? "&" : "?"}page=${next}&per_page=${pageSize}`;
      const answer = await this.#ask({ method: "GET", path: `${path}${query}` });
      found.push(read(schema, answer));
      next = read(pagination, answer).meta.pagination.next_page;
    }
    return found;
  }

  async #ask(request: Pick<HttpRequest, "method" | "path">): Promise<unknown> {
    const response = await this.#send(request);
    this.#refuse(response);
    return response.body;
  }

  /** Sends until the API answers with anything but "later". */
  async #send(request: Pick<HttpRequest, "method" | "path">): Promise<HttpResponse> {
    const { clock, signal } = this.#options;
    for (const wait of waits) {
      const response = await this.#once(request);
      const pause = pauseAfter(response);
      if (pause === null) return response;
      await clock.sleep(ms(Math.max(wait, pause)), signal);
    }
    return this.#once(request);
  }

  async #once({ method, path }: Pick<HttpRequest, "method" | "path">): Promise<HttpResponse> {
    const { http, signal, endpoint } = this.#options;
    const url = endpointOf(endpoint);
    const headers = { authorization: `Bearer ${await this.#options.token()}` };
    try {
      const at = `${url.pathname.replace(/\/$/, "")}${path}`;
      return await http.request(url.origin, { method, path: at, headers, timeout: requestTimeout }, signal);
    } catch (error) {
      if (!(error instanceof TargetUnreachable)) throw error;
      throw new TargetUnreachable("the API of Hetzner Cloud gives no answer", {
        ...(error.because === undefined ? {} : { because: error.because }),
        nextSteps: [`curl -sS ${url.href}   # 401 means that it can be reached`, "https://status.hetzner.com"],
        cause: error,
      });
    }
  }

  #refuse({ status, body, headers }: HttpResponse): void {
    if (status < 400) return;
    const parsed = errorAnswer.safeParse(body);
    const { code, message } = parsed.success
      ? parsed.data.error
      : { code: String(status), message: `it answered with ${status}` };
    if (status === 401 || code === "token_readonly" || code === "forbidden")
      throw new PreflightRefused("Hetzner Cloud refuses the token", {
        because: `${message} (${code})`,
        nextSteps: [
          "make one in the console: console.hetzner.cloud, Security, API tokens; reading is enough but for --confirm",
          "export HCLOUD_TOKEN=...   # or infra: { token: { file: PATH } } in gpuctl.yaml",
        ],
      });
    if (code === "rate_limit_exceeded")
      throw new Failed("Hetzner Cloud takes no more requests for now", {
        because: `${message} (${code})`,
        nextSteps: [
          `wait: the budget of the project is full again at ${resetOf(headers)}, and one request more fits in every second`,
        ],
        data: { code, status },
      });
    throw new Failed("Hetzner Cloud refuses", { because: `${message} (${code})`, data: { code, status } });
  }
}

/** When the API says that the project may ask as much as ever. */
function resetOf(headers: HttpResponse["headers"]): string {
  const seconds = Number(headers["ratelimit-reset"]);
  return Number.isFinite(seconds) && seconds > 0 ? new Date(seconds * 1000).toISOString() : "the next full hour";
}

/** The API over TLS; without, only on this machine: the token would be for everybody on the way. */
function endpointOf(endpoint: string): URL {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : null;
  const local = url !== null && /^(?:127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/.test(url.hostname);
  if (url?.protocol === "https:" || (url?.protocol === "http:" && local)) return url;
  throw new PreflightRefused("HCLOUD_ENDPOINT cannot be used", {
    because: url === null ? `${endpoint} is no address` : "the token would travel without encryption",
    nextSteps: ["unset HCLOUD_ENDPOINT   # the API is https://api.hetzner.cloud/v1"],
  });
}

/** How long to wait at least before the same request is sent again, milliseconds; null for an answer that waiting does not change. */
function pauseAfter({ status, body }: HttpResponse): number | null {
  // One request a second comes back to an empty budget.
  if (status === 429) return 1000;
  const code = errorAnswer.safeParse(body).data?.error.code ?? "";
  if (status === 423 || (status === 409 && code === "conflict")) return 0;
  return status === 502 || status === 503 || status === 504 ? 0 : null;
}

function read<Schema extends z.ZodType>(schema: Schema, body: unknown): z.output<Schema> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new Failed("Hetzner Cloud answered something that gpuctl does not understand", {
    because: `${issue?.path.join(".") ?? ""}: ${issue?.message ?? "not as documented"}`,
    nextSteps: ["a newer gpuctl may: https://docs.hetzner.cloud/changelog"],
  });
}
