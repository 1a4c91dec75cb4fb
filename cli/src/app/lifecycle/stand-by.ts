import { Failed } from "../../domain/errors.js";
import type { InstanceId } from "../../domain/names.js";
import { standByLine, standbyOperations, type StandByOperation } from "../../domain/standby.js";
import type { ReleaseRecord, ServiceSpec } from "../../domain/release.js";
import type { Context, TargetDriver } from "../../ports.js";
import { checkAnswers } from "./answers.js";
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
  const { service, instance } = operation;
  const prove = async (driver: TargetDriver, id: InstanceId): Promise<void> => {
    if (instance !== null) await answersRightly({ ...ctx, driver }, id, instance.spec);
  };
  try {
    const secrets = instance === null ? {} : ((await ctx.releases.secrets(record.id))[service] ?? {});
    await target.standBy(operation, secrets, ctx.config.timings.load, prove);
    return true;
  } catch (thrown) {
    const text = `${service} has no CPU instance behind it: ${reasonOf(thrown)}; gpuctl repair tries again`;
    ctx.progress.emit({ kind: "warning", text });
    return false;
  }
}

/** What answers in place of a service passes the correctness gate that the service has passed. */
async function answersRightly(ctx: Context, id: InstanceId, spec: ServiceSpec): Promise<void> {
  const verdict = await checkAnswers(ctx, id, spec, true);
  if (!verdict.passed) throw new Failed(`${id} failed the correctness gate`, { because: verdict.detail });
  step(ctx, `gates     ${id}: ${verdict.detail}`);
}
