import { instanceOf } from "../../domain/drift.js";
import { inOrder } from "../../domain/fingerprint.js";
import { beyondRetention } from "../../domain/history.js";
import type { ServiceSpec } from "../../domain/release.js";
import { observe } from "./observe.js";
import type { Session } from "./session.js";

/** Removes release records beyond retention and the artefacts that nothing kept or running needs; a line for each. */
export async function pruneBeyondRetention(session: Session): Promise<readonly string[]> {
  const { ctx, target } = session;
  const { records } = await ctx.releases.list();
  const remove = new Set(beyondRetention(records, ctx.config.retain));
  const running = new Set(
    (await observe(ctx)).instances.filter(({ process }) => process.state === "running").map(({ id }) => id),
  );
  const keep: ServiceSpec[] = [];
  for (const record of records)
    for (const [, release] of inOrder(record.services))
      if ((record.state !== "failed" && !remove.has(record.id)) || running.has(instanceOf(release))) keep.push(release.spec);
  const lines: string[] = [];
  for (const id of remove) {
    await target.check();
    await ctx.releases.remove(id);
    lines.push(`release ${id}`);
  }
  for (const { what, bytes } of await target.prune(keep)) lines.push(`${what} (${(bytes / 2 ** 20).toFixed(1)} MiB)`);
  return lines;
}
