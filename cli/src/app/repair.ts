import type { ReleaseId } from "../domain/names.js";
import type { Milliseconds } from "../domain/units.js";
import type { Context } from "../ports.js";
import { lookForCertificates } from "./lifecycle/certificates.js";
import { mend, type Mended } from "./lifecycle/mend.js";
import { requireEveryNode } from "./lifecycle/nodes.js";
import { observe } from "./lifecycle/observe.js";
import { withLease } from "./lifecycle/session.js";
import { keepCurrent } from "./lifecycle/survey.js";

export interface RepairResult {
  environment: string;
  release: ReleaseId | null;
  mended: Mended;
}

/** Mends what a killed command left and starts what stopped: afterwards exactly the current release serves. */
export async function repair(ctx: Context, request: { lockWait: Milliseconds }): Promise<RepairResult> {
  requireEveryNode(ctx, await observe(ctx));
  const repaired = await withLease(ctx, "repair", request.lockWait, async (session) => {
    const { survey, mended } = await mend(session, keepCurrent);
    const release = survey.current?.id ?? null;
    if (mended.length > 0) await ctx.audit.append({ action: "repair", release, detail: mended.join("; ") });
    return { environment: ctx.config.environment, release, mended };
  });
  await lookForCertificates(ctx);
  return repaired;
}
