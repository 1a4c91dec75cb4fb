import { GpuctlError } from "../domain/errors.js";
import type { Milliseconds } from "../domain/units.js";
import type { Context } from "../ports.js";
import { health, type HealthReport, type ServiceHealth } from "./health.js";

/** What one look has shown, and what of it was otherwise before. */
export interface HealthMoment {
  /** ISO time of the look. */
  at: string;
  report: HealthReport;
  /** Services that were not so at the look before; all of them at the first. */
  changed: readonly ServiceHealth[];
}

/**
 * Asks for the health again and again until the signal. A target that cannot be asked any more is told as services that cannot be
 * reached; at the first look it is an error, as there is nothing to watch.
 */
export async function* watchHealth(ctx: Context, every: Milliseconds): AsyncGenerator<HealthMoment> {
  let before: HealthReport | null = null;
  while (!ctx.signal.aborted) {
    const report: HealthReport = await look(ctx, before);
    // What was asked while the command was being ended says nothing about the services.
    if (over(ctx)) return;
    yield { at: ctx.clock.now().toISOString(), report, changed: changes(before, report) };
    before = report;
    await ctx.clock.sleep(every, ctx.signal).catch(() => undefined);
  }
}

async function look(ctx: Context, before: HealthReport | null): Promise<HealthReport> {
  try {
    return await health(ctx);
  } catch (thrown) {
    if (before === null || !(thrown instanceof GpuctlError)) throw thrown;
    const reason = thrown.because ?? thrown.message;
    const lost = (service: ServiceHealth): ServiceHealth => ({ ...service, status: "unreachable", device: null, reason });
    return { ...before, services: before.services.map(lost), healthy: false };
  }
}

const over = (ctx: Context): boolean => ctx.signal.aborted;

function changes(before: HealthReport | null, now: HealthReport): readonly ServiceHealth[] {
  const same = (a: ServiceHealth, b: ServiceHealth): boolean => stateOf(a) === stateOf(b);
  return now.services.filter((service) => !before?.services.some((earlier) => same(earlier, service)));
}

/** Everything but how long it took to answer. */
const stateOf = ({ elapsedMs: _, ...rest }: ServiceHealth): string => JSON.stringify(rest);
