import type { Milliseconds } from "../domain/units.js";
import type { Context, RemovedModels } from "../ports.js";
import { modelsNamed, requireOwnModels } from "./destroy.js";
import { pruneBeyondRetention } from "./lifecycle/keep.js";
import { withLease } from "./lifecycle/session.js";

export interface PruneResult {
  environment: string;
  removed: readonly string[];
  /** Only when they were to be removed. */
  models?: RemovedModels;
}

/**
 * Removes releases beyond retention and the artefacts that no kept or running release names; with `models` also the models that no
 * record of any environment there names. Throws UsageError where models are not the environment's to remove.
 */
export async function prune(ctx: Context, request: { models: boolean; lockWait: Milliseconds }): Promise<PruneResult> {
  if (request.models) requireOwnModels(ctx, "gpuctl prune");
  return withLease(ctx, "prune", request.lockWait, async (session) => {
    const removed = await pruneBeyondRetention(session);
    const models = request.models ? await session.target.pruneModels(await modelsNamed(ctx)) : null;
    const lines = [...removed, ...(models?.removed.map(({ what }) => what) ?? [])];
    if (lines.length > 0) await ctx.audit.append({ action: "prune", release: null, detail: lines.join("; ") });
    return { environment: ctx.config.environment, removed, ...(models === null ? {} : { models }) };
  });
}
