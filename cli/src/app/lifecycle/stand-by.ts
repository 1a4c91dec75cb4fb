import { standByLine, standbyOperations, type StandByOperation } from "../../domain/standby.js";
import type { ReleaseRecord } from "../../domain/release.js";
import { observe } from "./observe.js";
import { reasonOf, step, type Session } from "./session.js";

/** Puts behind every service of a release that has become good what is to stand there. What goes wrong is a warning. */
export async function renewStandbys(session: Session, record: ReleaseRecord): Promise<void> {
  const { standbys = [] } = await observe(session.ctx);
  for (const operation of standbyOperations(record, standbys)) {
    step(session.ctx, standByLine(operation));
    await standBy(session, record, operation);
  }
}

/** Whether it stands there now. A release is as good without it, so nothing is ever taken back because of it. */
export async function standBy(session: Session, record: ReleaseRecord, operation: StandByOperation): Promise<boolean> {
  const { ctx, target } = session;
  const { service } = operation;
  try {
    const secrets = operation.instance === null ? {} : ((await ctx.releases.secrets(record.id))[service] ?? {});
    await target.standBy(operation, secrets, ctx.config.timings.load);
    return true;
  } catch (thrown) {
    const text = `${service} has no CPU instance behind it: ${reasonOf(thrown)}; gpuctl repair tries again`;
    ctx.progress.emit({ kind: "warning", text });
    return false;
  }
}
