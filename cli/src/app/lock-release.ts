import { PreflightRefused } from "../domain/errors.js";
import type { Context, LeaseHolder } from "../ports.js";

export interface LockReleased {
  environment: string;
  broken: LeaseHolder | null;
}

/** Breaks a lease whose holder is gone; a live one only by force, because two commands would then change the same thing. */
export async function lockRelease(ctx: Context, request: { force: boolean }): Promise<LockReleased> {
  const { environment } = ctx.config;
  const holder = await ctx.leases.holder();
  if (holder === null || holder.state === "released") return { environment, broken: null };
  if (holder.state === "live" && !request.force)
    throw new PreflightRefused(`${holder.command} of ${holder.owner} (pid ${holder.pid}) is at work and holds the lease`, {
      because: "breaking it would let two commands change the same environment",
      nextSteps: ["wait for it, with --lock-wait 60s on your own command", "gpuctl lock release --force"],
      data: { holder },
    });
  const broken = await ctx.leases.break(request.force);
  const detail = `token ${holder.token} of ${holder.owner}, ${holder.command}, was ${holder.state}`;
  if (broken !== null) await ctx.audit.append({ action: "lock-release", release: null, detail });
  return { environment, broken };
}
