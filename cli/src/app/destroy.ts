import { UsageError } from "../domain/errors.js";
import { inOrder } from "../domain/fingerprint.js";
import { modelsOf, type ModelRef } from "../domain/release.js";
import type { Milliseconds } from "../domain/units.js";
import type { Context, RemovedModels } from "../ports.js";
import { withLease } from "./lifecycle/session.js";

export interface DestroyResult {
  environment: string;
  stopped: readonly string[];
  /** Only when they were to be removed. */
  models?: RemovedModels;
}

/**
 * Stops everything of an environment and gives its ports back. Releases, logs and the index's data stay, models too unless they are
 * to be removed. Throws UsageError without the environment's name, and where models are not the environment's to remove.
 */
export async function destroy(
  ctx: Context,
  request: { confirm: string | undefined; models: boolean; lockWait: Milliseconds },
): Promise<DestroyResult> {
  const { environment } = ctx.config;
  if (request.confirm !== environment)
    throw new UsageError(`destroy stops every service of environment ${environment}`, {
      because: request.confirm === undefined ? "its name must be given to confirm that" : `${request.confirm} is not its name`,
      nextSteps: [`gpuctl destroy --confirm ${environment}`],
    });
  if (request.models) requireOwnModels(ctx, `gpuctl destroy --confirm ${environment}`);
  return withLease(ctx, "destroy", request.lockWait, async (session) => {
    const { instances } = await ctx.driver.observe();
    await session.target.destroy();
    const models = request.models ? await session.target.removeModels(await modelsNamed(ctx)) : null;
    const ids = instances.filter(({ process }) => process.state === "running").map(({ id }) => id);
    await ctx.audit.append({ action: "destroy", release: null, detail: describe(ids, models) });
    return { environment, stopped: ids, ...(models === null ? {} : { models }) };
  });
}

/** Throws UsageError where the models of an environment are not its own to remove. @param without  what to type in place of it */
export function requireOwnModels({ config, driver }: Context, without: string): void {
  if (driver.removeModels !== undefined) return;
  throw new UsageError(`the models of environment ${config.environment} are not its own`, {
    because: "all projects of this user share one model store",
    nextSteps: [without, "gpuctl models gc, which removes those that nothing names"],
  });
}

/** Of every release of which there is a record, also one that failed: all of them brought theirs. */
export async function modelsNamed(ctx: Context): Promise<readonly ModelRef[]> {
  const { records } = await ctx.releases.list();
  return records.flatMap(({ services }) => inOrder(services).flatMap(([, { spec }]) => modelsOf(spec)));
}

function describe(stopped: readonly string[], models: RemovedModels | null): string {
  const removed = models?.removed.map(({ what }) => what).join(", ") ?? "";
  return `stopped ${stopped.join(", ") || "nothing"}${removed === "" ? "" : `; removed ${removed}`}`;
}
