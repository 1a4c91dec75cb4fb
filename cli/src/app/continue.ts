import { PreflightRefused, UsageError } from "../domain/errors.js";
import { instanceOf } from "../domain/drift.js";
import { endpointsOf } from "../domain/endpoints.js";
import { inOrder } from "../domain/fingerprint.js";
import type { PlannedRelease } from "../domain/plan.js";
import { cannotResume, cutShort, resume, type CutShort } from "../domain/resume.js";
import type { Milliseconds } from "../domain/units.js";
import type { Context } from "../ports.js";
import { sayWhatServes, type DeployResult } from "./deploy.js";
import { awaitCertificates } from "./lifecycle/certificates.js";
import { passBySilent } from "./lifecycle/left-out.js";
import { requireEveryNode } from "./lifecycle/nodes.js";
import { rollOut } from "./lifecycle/rollout.js";
import { phase, withLease, type Session } from "./lifecycle/session.js";
import { stageEverything } from "./lifecycle/staging.js";
import { newInstances } from "./lifecycle/switch.js";
import { keepCurrent, survey, type Survey } from "./lifecycle/survey.js";

type Outcome = Omit<DeployResult, "elapsedMs">;

/**
 * Goes on with a release whose deploy was cut short, on the hosts that lack it, instead of taking it back: as it was recorded then, with
 * the secrets of then, whatever the project file says by now. Every host proves it again. Should it fail, it is taken back everywhere.
 */
export async function continueDeploy(ctx: Context, request: { lockWait: Milliseconds }): Promise<DeployResult> {
  const began = ctx.clock.monotonic();
  const look = (): Promise<Survey> => survey(ctx, keepCurrent);
  const shown = await phase(ctx, "resolve", null, look, (seen) => `on with ${unfinished(seen).record.id}`);
  requireEveryNode(ctx, shown.facts.observation, "deploy --continue");
  const found = unfinished(shown);
  await passBySilent(ctx, {
    command: "deploy --continue",
    asks: `${found.record.id} is to be finished on all hosts`,
    services: newInstances(rest(ctx, shown, found)),
    nextSteps: ["gpuctl status"],
  });
  try {
    await stageEverything(ctx, rest(ctx, shown, found));
    const result = await withLease(ctx, "deploy --continue", request.lockWait, continueUnderLease);
    await awaitCertificates(ctx);
    return { ...result, elapsedMs: Math.round(ctx.clock.monotonic() - began) };
  } catch (thrown) {
    throw sayWhatServes(thrown, found.before?.id ?? null);
  }
}

async function continueUnderLease(session: Session): Promise<Outcome> {
  const { ctx, target } = session;
  const began = ctx.clock.monotonic();
  await target.check();
  const copied = (await ctx.releases.complete?.()) ?? [];
  const seen = await survey(ctx, keepCurrent);
  const found = unfinished(seen);
  const { record, figures, hosts } = await rollOut(session, {
    release: rest(ctx, seen, found),
    current: found.before,
    secrets: await ctx.releases.secrets(found.record.id),
    soakFor: ctx.config.timings.soak,
    action: "continue",
    way: { path: "cached", began },
    resumed: { record: found.record, answersOn: answersOn(seen, found) },
  });
  return {
    outcome: "deployed",
    environment: ctx.config.environment,
    release: record.id,
    previous: found.before?.id ?? null,
    mended: copied,
    ...figures,
    gates: record.gates,
    hosts,
    services: inOrder(record.services).flatMap(([service, { spec }]) =>
      endpointsOf(ctx.config, service, spec.listen).map(({ node, url }) => ({
        service,
        ...(node !== null && { node }),
        address: url,
      })),
    ),
  };
}

/** The release to go on with. Throws UsageError when there is none, PreflightRefused when it cannot be gone on with. */
function unfinished({ stored, facts }: Survey): CutShort {
  const found = cutShort(stored.records, facts.observed);
  if (found === null)
    throw new UsageError("there is no deploy to continue", {
      because: "the newest release is good, or it was taken back everywhere",
      nextSteps: ["gpuctl status", "gpuctl deploy"],
    });
  const because = cannotResume(found);
  if (because === null) return found;
  throw new PreflightRefused(`${found.record.id} cannot be gone on with`, {
    because,
    nextSteps: ["gpuctl repair, to take it back", "then gpuctl deploy"],
  });
}

const rest = (ctx: Context, { facts }: Survey, found: CutShort): PlannedRelease =>
  resume(found, facts.observed, { keepWarmMs: ctx.config.timings.keepWarm, loadMs: ctx.config.timings.load });

/** Nodes on which the release answers already: there it has to be taken back, should it fail. */
function answersOn({ facts }: Survey, { record }: CutShort): readonly string[] {
  const own = new Set(inOrder(record.services).map(([, service]) => instanceOf(service)));
  const theirs = facts.observation.instances.filter(({ id }) => own.has(id));
  return theirs.flatMap(({ nodes = [] }) => nodes.filter(({ traffic }) => traffic === "open").map(({ node }) => node));
}
