import { inOrder } from "../domain/fingerprint.js";
import { GpuctlError } from "../domain/errors.js";
import { currentRelease } from "../domain/history.js";
import type { ServiceName } from "../domain/names.js";
import { reachableUrl } from "../domain/spec.js";
import { ms } from "../domain/units.js";
import type { Context } from "../ports.js";

export interface ServiceHealth {
  service: ServiceName;
  address: string;
  /** What the service says, or `unreachable`. */
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

/** Asks every service's public `/health`, as any client or monitor would. */
export async function health(ctx: Context): Promise<HealthReport> {
  const { records } = await ctx.releases.list();
  const current = currentRelease(records);
  const addresses: readonly (readonly [ServiceName, string])[] =
    current === null
      ? inOrder(ctx.config.services).map(([service, { port }]) => [service, reachableUrl(ctx.config.bind, port)] as const)
      : inOrder(current.services).map(
          ([service, { spec }]) => [service, reachableUrl(spec.listen.host, spec.listen.port)] as const,
        );
  const services = await Promise.all(addresses.map(([service, address]) => askHealth(ctx, service, address)));
  return { environment: ctx.config.environment, services, healthy: services.every(({ status }) => status === "healthy") };
}

async function askHealth(ctx: Context, service: ServiceName, address: string): Promise<ServiceHealth> {
  const began = ctx.clock.monotonic();
  const elapsed = (): number => Math.round(ctx.clock.monotonic() - began);
  try {
    const answer = await ctx.http.request(address, { method: "GET", path: "/health", timeout: patience }, ctx.signal);
    const body = (typeof answer.body === "object" && answer.body !== null ? answer.body : {}) as Record<string, unknown>;
    const text = (name: string): string | null => (typeof body[name] === "string" ? body[name] : null);
    const status = text("status") ?? `answered ${answer.status}`;
    return {
      service,
      address,
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
    return { service, address, status: "unreachable", device: null, model: null, fallback: false, reason, elapsedMs: elapsed() };
  }
}
