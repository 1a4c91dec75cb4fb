import { UsageError } from "../domain/errors.js";
import type { Milliseconds } from "../domain/units.js";
import type { Context } from "../ports.js";
import { withLease } from "./lifecycle/session.js";

export interface DestroyResult {
  environment: string;
  stopped: readonly string[];
}

/** Stops everything of an environment and gives its ports back. Releases, logs and the index's data stay. */
export async function destroy(
  ctx: Context,
  request: { confirm: string | undefined; lockWait: Milliseconds },
): Promise<DestroyResult> {
  const { environment } = ctx.config;
  if (request.confirm !== environment)
    throw new UsageError(`destroy stops every service of environment ${environment}`, {
      because: request.confirm === undefined ? "its name must be given to confirm that" : `${request.confirm} is not its name`,
      nextSteps: [`gpuctl destroy --confirm ${environment}`],
    });
  const stopped = await withLease(ctx, "destroy", request.lockWait, async (session) => {
    const { instances } = await ctx.driver.observe();
    await session.target.destroy();
    const ids = instances.filter(({ process }) => process.state === "running").map(({ id }) => id);
    await ctx.audit.append({ action: "destroy", release: null, detail: `stopped ${ids.join(", ") || "nothing"}` });
    return ids;
  });
  return { environment, stopped };
}
