import { field } from "../bench/workload.js";
import type { Slo } from "../domain/config/resolved.js";
import { Failed, TargetUnreachable, UsageError } from "../domain/errors.js";
import type { ServiceName } from "../domain/names.js";
import { ms } from "../domain/units.js";
import type { HttpClient } from "../ports.js";
import { needsTunnel, serviceWay, type Reaching, type ServiceAddress } from "./service-address.js";

/** One service to measure. */
export interface BenchTarget {
  service: ServiceName;
  address: ServiceAddress;
  /** The service runs on the machine that makes the load. */
  sharedHost: boolean;
  /** A tunnel leads to it, whose time is in every figure. */
  tunnelled: boolean;
  deviceWished: "cuda" | "mps" | "cpu" | "auto";
  slo: Slo | null;
}

/** What a service says of itself; null where it does not (a foreign service has no /info of ours). */
export interface ServiceFacts {
  model: string | null;
  revision: string | null;
  dimension: number | null;
}

const questionTimeout = ms(10_000);

/** A service of the environment, as gpuctl.yaml describes it. */
export async function configuredTarget(ctx: Reaching, service: ServiceName): Promise<BenchTarget> {
  const { endpoint, ...address } = await serviceWay(ctx, service);
  const configured = ctx.config.services[service];
  const device = configured?.device;
  return {
    service,
    address,
    sharedHost: endpoint.thisMachine,
    tunnelled: needsTunnel(endpoint),
    deviceWished: device?.require ?? device?.prefer ?? "auto",
    slo: configured?.slo ?? null,
  };
}

/** A service that was named by its address alone. */
export function addressedTarget(url: string, service: ServiceName): BenchTarget {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed === null || !/^https?:$/.test(parsed.protocol) || parsed.pathname !== "/") {
    throw new UsageError(`--url ${url} is no address of a service`, {
      because: "it must be scheme, host and port, without a path",
      nextSteps: ["gpuctl bench embed --url http://127.0.0.1:8001"],
    });
  }
  return {
    service,
    address: { base: parsed.origin, headers: {} },
    sharedHost: isLoopback(parsed),
    tunnelled: false,
    deviceWished: "auto",
    slo: null,
  };
}

/** Asks a service what it is. Throws TargetUnreachable when nothing answers. */
export async function describeService(
  tools: { http: HttpClient; signal: AbortSignal },
  target: BenchTarget,
): Promise<ServiceFacts> {
  const info = await ask(tools, target, "/info");
  const named = (...names: readonly string[]): unknown => names.map((name) => field(info, name)).find((value) => value != null);
  const text = (value: unknown): string | null => (typeof value === "string" ? value : null);
  const dimension = named("dimension", "dimensions");
  return {
    model: text(named("model_id", "modelId", "model")),
    revision: text(named("revision", "model_sha", "generation")),
    dimension: typeof dimension === "number" ? dimension : null,
  };
}

/** The answer to a question by GET, or null when the service does not know the path. */
export async function ask(
  tools: { http: HttpClient; signal: AbortSignal },
  target: Pick<BenchTarget, "service" | "address">,
  path: string,
): Promise<unknown> {
  const { base, headers } = target.address;
  const answer = await tools.http
    .request(base, { method: "GET", path, headers, timeout: questionTimeout }, tools.signal)
    .catch((cause: unknown) => {
      if (!(cause instanceof TargetUnreachable)) throw cause;
      throw new TargetUnreachable(`the ${target.service} at ${base} does not answer`, {
        ...(cause.because === undefined ? {} : { because: cause.because }),
        nextSteps: ["gpuctl status", "gpuctl deploy"],
        cause,
      });
    });
  if (answer.status === 503)
    throw new Failed(`the ${target.service} at ${base} is not ready`, {
      because: "it answers 503",
      nextSteps: ["gpuctl health", "gpuctl logs"],
    });
  if (answer.status === 401)
    throw new Failed(`the ${target.service} at ${base} asks for an API key`, {
      because: "it answers 401",
      nextSteps: ["name the key under `secrets: { API_KEYS: ... }` of the service in gpuctl.yaml"],
    });
  return answer.status === 200 ? answer.body : null;
}

/** Headers that ask a service to compute its answer, whatever it remembers: the same seed asks the same questions again. */
export const uncached = (headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> => ({
  ...headers,
  "cache-control": "no-store",
});

function isLoopback(url: URL): boolean {
  return url.hostname === "localhost" || url.hostname === "[::1]" || url.hostname.startsWith("127.");
}
