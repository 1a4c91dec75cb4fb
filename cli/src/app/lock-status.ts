import type { Context, LeaseHolder } from "../ports.js";

export interface LockStatus {
  environment: string;
  holder: LeaseHolder | null;
}

/** Who may change the environment now. */
export async function lockStatus(ctx: Context): Promise<LockStatus> {
  const holder = await ctx.leases.holder();
  return { environment: ctx.config.environment, holder: holder?.state === "released" ? null : holder };
}
