import { CandidateFailed, GpuctlError, Interrupted, TargetMixed, TargetUnreachable } from "../../domain/errors.js";
import { inOrder } from "../../domain/fingerprint.js";
import type { ReleaseRecord } from "../../domain/release.js";
import { ms } from "../../domain/units.js";
import { CandidateTrouble, type Findings } from "./prepare.js";
import { observe } from "./observe.js";
import { mend } from "./mend.js";
import { reasonOf, step, type Session } from "./session.js";
import { keepCurrent } from "./survey.js";
import type { PerService } from "../../domain/fingerprint.js";
import { instanceOf } from "../../domain/drift.js";
import type { ServiceName } from "../../domain/names.js";

/** A release that did not make it. */
export interface Unmade {
  record: ReleaseRecord;
  current: ReleaseRecord | null;
  findings: Findings;
  action: string;
}

const attempts = 3;
/** A target that cannot be reached is tried again for so long: connections come back, and after 30 s the lease is anybody's. */
const patienceMs = 25_000;
const pauseMs = ms(1000);

/** The same session, deaf to SIGINT and SIGTERM: for what must be finished or taken back, never left half done. */
export function withoutInterruption(session: Session): Session {
  return { ...session, ctx: { ...session.ctx, signal: new AbortController().signal } };
}

/**
 * Takes a release back: writes down that it failed, then mends the environment to the release that was current before.
 * Returns what to throw: the candidate's failure, the interruption, or that the target was left mixed.
 */
export async function undo(session: Session, unmade: Unmade, failure: unknown): Promise<GpuctlError> {
  const quiet = withoutInterruption(session);
  const { record, current } = unmade;
  const reason = reasonOf(failure);
  step(quiet.ctx, `taking ${record.id} back: ${reason}`);
  await writeFailure(quiet, unmade, reason);
  const { clock } = quiet.ctx;
  const began = clock.monotonic();
  for (let attempt = 1; ; attempt += 1) {
    try {
      await mend(quiet, keepCurrent, record.id);
      const outcomes = await outcomesOf(quiet, current);
      await writeAudit(quiet, record, reason);
      return explain(unmade, failure, reason, outcomes);
    } catch (thrown) {
      const lost = thrown instanceof TargetUnreachable;
      if (lost ? clock.monotonic() - began >= patienceMs : attempt >= attempts) return leftMixed(unmade, reason, thrown);
      if (lost) await clock.sleep(pauseMs);
    }
  }
}

/** Best effort: a full disk must not keep the old release from coming back. The next command settles an unwritten failure. */
async function writeFailure(session: Session, unmade: Unmade, reason: string): Promise<void> {
  const { ctx, target } = session;
  const { record, findings } = unmade;
  try {
    await target.check();
    const finishedAt = ctx.clock.now().toISOString();
    await ctx.releases.update({ ...record, state: "failed", failure: reason, finishedAt, gates: [...findings.gates] });
  } catch (thrown) {
    ctx.progress.emit({ kind: "warning", text: `the failure of ${record.id} was not recorded: ${reasonOf(thrown)}` });
  }
}

async function writeAudit(session: Session, record: ReleaseRecord, reason: string): Promise<void> {
  await session.ctx.audit.append({ action: "failed", release: record.id, detail: reason }).catch(() => undefined);
}

/** Per service, what answers now. */
async function outcomesOf(session: Session, current: ReleaseRecord | null): Promise<PerService<string>> {
  const { instances } = await observe(session.ctx);
  const result: Partial<Record<ServiceName, string>> = {};
  for (const [service, release] of inOrder(current?.services ?? {})) {
    const serving = instances.find((instance) => instance.id === instanceOf(release));
    result[service] = serving?.traffic === "open" ? `${serving.id} serves` : "nothing serves";
  }
  return result;
}

function explain(unmade: Unmade, failure: unknown, reason: string, outcomes: PerService<string>): GpuctlError {
  const { record, current } = unmade;
  const serving = current === null ? "nothing serves, as before" : `${current.id} keeps serving`;
  const data = { release: record.id, serving: current?.id ?? null, outcomes };
  if (failure instanceof Interrupted)
    return new Interrupted(`${unmade.action} stopped on request: ${record.id} was taken back and ${serving}`, {
      data,
      cause: failure,
    });
  const trouble = failure instanceof CandidateTrouble ? failure : null;
  return new CandidateFailed(`${record.id} failed; ${serving}`, {
    because: failure instanceof GpuctlError && failure.because !== undefined ? `${failure.message}: ${failure.because}` : reason,
    nextSteps: [
      trouble === null ? "gpuctl status" : `gpuctl logs ${trouble.service}`,
      `gpuctl diff ${current?.id ?? "r0"} ${record.id}`,
    ].slice(0, current === null ? 1 : 2),
    data: trouble === null ? data : { ...data, service: trouble.service, phase: trouble.phase, logTail: trouble.logTail },
    cause: failure,
  });
}

function leftMixed(unmade: Unmade, reason: string, problem: unknown): TargetMixed {
  const { record, current } = unmade;
  const before = current?.id ?? "the empty state before it";
  const what = problem instanceof TargetUnreachable ? `whether ${before} serves is not known` : `${before} could not be restored`;
  return new TargetMixed(`${record.id} failed and ${what}`, {
    because: `${reason}; then ${reasonOf(problem)}`,
    nextSteps: ["gpuctl status", "gpuctl repair"],
    data: { release: record.id, wanted: current?.id ?? null },
    cause: problem,
  });
}
