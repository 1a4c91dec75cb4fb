import { diffReleases, type ReleaseDiff } from "../domain/diff.js";
import { findRelease } from "../domain/history.js";
import type { Context } from "../ports.js";

/** Compares what two releases run. */
export async function diff(ctx: Context, request: { from: string; to: string }): Promise<ReleaseDiff> {
  const { records } = await ctx.releases.list();
  return diffReleases(findRelease(records, request.from), findRelease(records, request.to));
}
