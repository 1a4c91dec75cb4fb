import { Failed } from "../../domain/errors.js";
import type { ServiceName } from "../../domain/names.js";
import type { Milliseconds } from "../../domain/units.js";
import type { Context, Phase } from "../../ports.js";
import { stopIfAsked } from "./deadline.js";
import { LeasedTarget } from "./leased-target.js";

/** One piece of work under one lease. */
export interface Session {
  ctx: Context;
  target: LeasedTarget;
}

/** Takes the lease, works, and gives it back whatever happens, also on SIGINT and SIGTERM. */
export async function withLease<T>(
  ctx: Context,
  command: string,
  wait: Milliseconds,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const lease = await phase(ctx, "lease", null, () => ctx.leases.acquire(command, wait, ctx.signal));
  try {
    return await work({ ctx, target: new LeasedTarget(ctx, lease) });
  } finally {
    // A lease that cannot be given back is found gone when this process has ended; the work's own outcome matters more.
    await lease.release().catch((thrown: unknown) => {
      ctx.progress.emit({ kind: "warning", text: `the lease was not given back: ${reasonOf(thrown)}` });
    });
  }
}

/** Runs one phase with its begin and end lines. Interruptions are noticed before it starts. */
export async function phase<T>(
  ctx: Context,
  name: Phase,
  service: ServiceName | null,
  work: () => Promise<T>,
  detail?: (result: T) => string | undefined,
): Promise<T> {
  stopIfAsked(ctx.signal);
  const about = { kind: "phase", phase: name, ...(service === null ? {} : { service }) } as const;
  const began = ctx.clock.monotonic();
  ctx.progress.emit({ ...about, state: "begin" });
  try {
    const result = await work();
    const text = detail?.(result);
    ctx.progress.emit({
      ...about,
      state: "end",
      elapsedMs: elapsed(ctx, began),
      ...(text === undefined ? {} : { detail: text }),
    });
    return result;
  } catch (thrown) {
    ctx.progress.emit({ ...about, state: "failed", elapsedMs: elapsed(ctx, began), detail: reasonOf(thrown) });
    throw thrown;
  }
}

/** Says that a phase has nothing to do, and why. */
export function skipped(ctx: Context, name: Phase, detail: string, service?: ServiceName): void {
  ctx.progress.emit({ kind: "phase", phase: name, state: "skipped", detail, ...(service === undefined ? {} : { service }) });
}

export function step(ctx: Context, text: string): void {
  ctx.progress.emit({ kind: "step", text });
}

const elapsed = (ctx: Context, began: number): number => Math.round(ctx.clock.monotonic() - began);

/** One sentence about anything thrown, with its reason. */
export function reasonOf(thrown: unknown): string {
  if (thrown instanceof Failed && thrown.because !== undefined) return `${thrown.message}: ${thrown.because}`;
  return thrown instanceof Error ? thrown.message : String(thrown);
}
