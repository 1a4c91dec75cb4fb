import { configuredEndpoints, endpointsOf, type Endpoint } from "../domain/endpoints.js";
import { inOrder } from "../domain/fingerprint.js";
import { GpuctlError } from "../domain/errors.js";
import { currentRelease } from "../domain/history.js";
import type { ServiceName } from "../domain/names.js";
import type { ServiceRelease } from "../domain/release.js";
import { ms } from "../domain/units.js";
import type { Context } from "../ports.js";
import { baseOf } from "./service-address.js";

export interface ServiceHealth {
  service: ServiceName;
  /** On targets of nodes. */
  node?: string;
  address: string;
  /** What the service says, or `unreachable`. `degraded` too where the CPU answers though a GPU was proven by the deploy. */
  status: string;
  device: string | null;
  model: string | null;
  /** Whether a smaller model answers in place of the one that was deployed. */
  fallback: boolean;
  reason: string | null;
  elapsedMs: number;
}

export interface HealthReport {
  environment: string;
  services: readonly ServiceHealth[];
  healthy: boolean;
}

const patience = ms(3000);

/** Asks every service's public `/health` on each of its nodes, as any client or monitor would. */
export async function health(ctx: Context): Promise<HealthReport> {
  const { records } = await ctx.releases.list();
  const current = currentRelease(records);
  const endpoints: readonly (readonly [ServiceName, Endpoint, ServiceRelease["proof"]])[] =
    current === null
      ? inOrder(ctx.config.services).flatMap(([service]) =>
          configuredEndpoints(ctx.config, service).map((endpoint) => [service, endpoint, null] as const),
        )
      : inOrder(current.services).flatMap(([service, { spec, proof }]) =>
          endpointsOf(ctx.config, service, spec.listen).map((endpoint) => [service, endpoint, proof] as const),
        );
  const asked = endpoints.map(async ([service, endpoint, proof]) => judged(await askHealth(ctx, service, endpoint), proof));
  const services = await Promise.all(asked);
  return { environment: ctx.config.environment, services, healthy: services.every(({ status }) => status === "healthy") };
}

/** Who stands in for an instance that is gone is well, and says so; what was deployed is not what answers. */
function judged(health: ServiceHealth, proof: ServiceRelease["proof"]): ServiceHealth {
  const { status, device } = health;
  if (status !== "healthy" || device !== "cpu" || proof === null || proof.device === "cpu") return health;
  return { ...health, status: "degraded", reason: `the CPU answers, where ${proof.device} was proven by the deploy` };
}

async function askHealth(ctx: Context, service: ServiceName, endpoint: Endpoint): Promise<ServiceHealth> {
  const about = { service, ...(endpoint.node !== null && { node: endpoint.node }), address: endpoint.url };
  const began = ctx.clock.monotonic();
  const elapsed = (): number => Math.round(ctx.clock.monotonic() - began);
  try {
    const base = await baseOf(ctx, service, endpoint);
    const answer = await ctx.http.request(base, { method: "GET", path: "/health", timeout: patience }, ctx.signal);
    const body = (typeof answer.body === "object" && answer.body !== null ? answer.body : {}) as Record<string, unknown>;
    const text = (name: string): string | null => (typeof body[name] === "string" ? body[name] : null);
    const status = text("status") ?? `answered ${answer.status}`;
    return {
      ...about,
      status,
      device: text("device"),
      model: text("model"),
      fallback: body["fallback"] === true,
      reason: text("reason"),
      elapsedMs: elapsed(),
    };
  } catch (thrown) {
    const said = thrown instanceof GpuctlError ? thrown.because : undefined;
    const reason = said ?? (thrown instanceof Error ? thrown.message : String(thrown));
    return { ...about, status: "unreachable", device: null, model: null, fallback: false, reason, elapsedMs: elapsed() };
  }
}
