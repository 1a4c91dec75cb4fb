import type { Milliseconds } from "../domain/units.js";
import type { Context } from "../ports.js";
import { pruneBeyondRetention } from "./lifecycle/keep.js";
import { withLease } from "./lifecycle/session.js";

export interface PruneResult {
  environment: string;
  removed: readonly string[];
}

/** Removes releases beyond retention and the artefacts that no kept or running release names. */
export async function prune(ctx: Context, request: { lockWait: Milliseconds }): Promise<PruneResult> {
  const removed = await withLease(ctx, "prune", request.lockWait, async (session) => {
    const lines = await pruneBeyondRetention(session);
    if (lines.length > 0) await ctx.audit.append({ action: "prune", release: null, detail: lines.join("; ") });
    return lines;
  });
  return { environment: ctx.config.environment, removed };
}
