import type { AuditEntry, Context } from "../ports.js";

export interface AuditReport {
  environment: string;
  entries: readonly AuditEntry[];
}

/** The last actions on the environment, oldest first. */
export async function audit(ctx: Context, request: { last: number }): Promise<AuditReport> {
  return { environment: ctx.config.environment, entries: await ctx.audit.read(request.last) };
}
