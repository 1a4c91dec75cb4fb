import { field } from "../bench/workload.js";
import { Failed, TargetUnreachable } from "../domain/errors.js";
import type { ServiceName } from "../domain/names.js";
import { ms, type Milliseconds } from "../domain/units.js";
import type { Clock, HttpClient, HttpResponse } from "../ports.js";
import type { ServiceAddress } from "./service-address.js";

export interface CallTools {
  http: HttpClient;
  clock: Clock;
  signal: AbortSignal;
}

export interface Call {
  service: ServiceName;
  address: ServiceAddress;
  path: string;
  body: unknown;
  timeout: Milliseconds;
}

const patience = ms(120_000);

/**
 * Posts a question and gives back its 200. A service that is full (429) or on its way up (503) is asked again when it says,
 * for two minutes at most; anything else becomes Failed with the service's own words.
 */
export async function callPatiently(tools: CallTools, call: Call): Promise<HttpResponse> {
  const until = tools.clock.monotonic() + patience;
  for (let attempt = 0; ; attempt += 1) {
    const answer = await post(tools, call);
    if (answer.status === 200) return answer;
    const pause = retryAfter(answer, attempt);
    if (!(answer.status === 429 || answer.status === 503) || tools.clock.monotonic() + pause > until) throw refusal(call, answer);
    await tools.clock.sleep(pause, tools.signal);
  }
}

/** Posts a question once, whatever the answer. */
export async function post(tools: Pick<CallTools, "http" | "signal">, call: Call): Promise<HttpResponse> {
  const { base, headers } = call.address;
  const request = { method: "POST", path: call.path, body: call.body, headers, timeout: call.timeout } as const;
  try {
    return await tools.http.request(base, request, tools.signal);
  } catch (cause) {
    if (!(cause instanceof TargetUnreachable)) throw cause;
    throw new TargetUnreachable(`the ${call.service} at ${base} does not answer`, {
      ...(cause.because === undefined ? {} : { because: cause.because }),
      nextSteps: ["gpuctl status", "gpuctl deploy"],
      cause,
    });
  }
}

/** What a service said when it did not do what it was asked. */
export function refusal(call: Pick<Call, "service" | "path">, answer: HttpResponse): Failed {
  const said = field(answer.body, "message") ?? field(answer.body, "error") ?? answer.body;
  return new Failed(`the ${call.service} refused ${call.path} with ${String(answer.status)}`, {
    because: typeof said === "string" && said !== "" ? said.replace(/\.$/, "") : "it did not say why",
    nextSteps: ["gpuctl health", `gpuctl logs ${call.service}`],
    data: { status: answer.status },
  });
}

/** Seconds as the header says them, else a back-off that doubles from 100 ms to 5 s. */
function retryAfter(answer: HttpResponse, attempt: number): Milliseconds {
  const said = answer.headers["retry-after"];
  if (said !== undefined && /^\d+(\.\d+)?$/.test(said)) return ms(Math.min(30_000, Number(said) * 1000));
  return ms(Math.min(5_000, 100 * 2 ** attempt));
}
