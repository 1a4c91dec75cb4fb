import { endpointsOf } from "../domain/endpoints.js";
import { Interrupted } from "../domain/errors.js";
import type { ReleaseId, ServiceName } from "../domain/names.js";
import type { HostRow } from "../domain/host-table.js";
import { isEmpty, planText } from "../domain/plan.js";
import type { GateResult } from "../domain/release.js";
import type { Milliseconds } from "../domain/units.js";
import type { Context } from "../ports.js";
import { awaitCertificates, warnOfMissing } from "./lifecycle/certificates.js";
import { configuredService } from "./lifecycle/desired.js";
import { mend, type Mended } from "./lifecycle/mend.js";
import { requireEveryNode } from "./lifecycle/nodes.js";
import { rollOut } from "./lifecycle/rollout.js";
import { step, withLease, type Session } from "./lifecycle/session.js";
import { stageEverything } from "./lifecycle/staging.js";
import type { Survey } from "./lifecycle/survey.js";
import { fromConfiguration, surveyConfigured, type ConfiguredWish } from "./plan.js";

export interface DeployRequest {
  /** Only this service; the others stay as they are. */
  service: string | undefined;
  /** How long to wait for a lease that somebody else holds. */
  lockWait: Milliseconds;
}

/** How a deploy ended well. */
export interface DeployResult {
  /** `mended`: the release was right and something of it did not run. */
  outcome: "nothing-to-do" | "mended" | "deployed";
  environment: string;
  release: ReleaseId | null;
  previous: ReleaseId | null;
  mended: Mended;
  switchMs: number | null;
  heldMs: number | null;
  gates: readonly GateResult[];
  /** One for each node that runs the service. */
  services: readonly { service: ServiceName; node?: string; address: string }[];
  /** What serves where after a change; empty where there is one place only, and when nothing changed. */
  hosts: readonly HostRow[];
  elapsedMs: number;
}

/** Deploys what the project file says, or leaves the old release serving and says why. */
export async function deploy(ctx: Context, request: DeployRequest): Promise<DeployResult> {
  const began = ctx.clock.monotonic();
  const only = request.service === undefined ? null : configuredService(ctx.config, request.service);
  const shown = await surveyConfigured(ctx, only);
  const timed = (result: Outcome): DeployResult => ({ ...result, elapsedMs: Math.round(ctx.clock.monotonic() - began) });
  requireEveryNode(ctx, shown.facts.observation, "deploy");
  if (isEmpty(shown.plan)) {
    warnOfMissing(ctx, shown.facts.observation.unencrypted);
    return timed(settled(ctx, shown, []));
  }
  try {
    const lookedFor = ctx.clock.monotonic() - began;
    if (shown.plan.release !== null) await stageEverything(ctx, shown.plan.release);
    const result = await withLease(ctx, "deploy", request.lockWait, (session) =>
      deployUnderLease(session, only, shown, ctx.clock.monotonic() - lookedFor),
    );
    await awaitCertificates(ctx);
    return timed(result);
  } catch (thrown) {
    throw sayWhatServes(thrown, shown.current?.id ?? null);
  }
}

type Outcome = Omit<DeployResult, "elapsedMs">;

/**
 * Plans again, because what was true outside the lease may not be true any more, and brings the result into service.
 * @param began  what is timed counts from here, by the monotonic clock
 */
async function deployUnderLease(session: Session, only: ServiceName | null, shown: Survey, began: number): Promise<Outcome> {
  const { ctx } = session;
  const { survey: now, mended } = await mend(session, fromConfiguration(ctx, only));
  const { release } = now.plan;
  if (release === null) {
    const current = now.current?.id ?? null;
    if (mended.length > 0) await ctx.audit.append({ action: "repair", release: current, detail: mended.join("; ") });
    return settled(ctx, now, mended);
  }
  if (planText({ ...now.plan, drift: [] }) !== planText({ ...shown.plan, drift: [] })) {
    step(ctx, "the plan changed while the lease was not held; going on with the new one");
    await stageEverything(ctx, release);
  }
  const { record, figures, hosts } = await rollOut(session, {
    release,
    current: now.current,
    secrets: now.wish.desired.secrets,
    soakFor: ctx.config.timings.soak,
    action: "deploy",
    way: { path: "cached", began },
  });
  return {
    ...settled(ctx, now, mended),
    ...figures,
    hosts,
    outcome: "deployed",
    release: record.id,
    previous: now.current?.id ?? null,
    gates: record.gates,
    services: addresses(ctx, now),
  };
}

function settled(ctx: Context, now: Survey & { wish: ConfiguredWish }, mended: Mended): Outcome {
  return {
    outcome: mended.length > 0 ? "mended" : "nothing-to-do",
    environment: ctx.config.environment,
    release: now.current?.id ?? null,
    previous: null,
    mended,
    switchMs: null,
    heldMs: null,
    gates: [],
    hosts: [],
    services: addresses(ctx, now),
  };
}

function addresses({ config }: Context, now: Survey & { wish: ConfiguredWish }): DeployResult["services"] {
  return Object.values(now.wish.specs).flatMap(({ service, listen }) =>
    endpointsOf(config, service, listen).map(({ node, url }) => ({ service, ...(node !== null && { node }), address: url })),
  );
}

/** An interruption before anything was started knows nothing of what serves; the person wants to. */
export function sayWhatServes(thrown: unknown, current: ReleaseId | null): unknown {
  if (!(thrown instanceof Interrupted) || thrown.data !== undefined) return thrown;
  const serving = current === null ? "nothing was started" : `${current} keeps serving`;
  return new Interrupted(`${thrown.message}; ${serving}`, { data: { serving: current }, cause: thrown });
}
