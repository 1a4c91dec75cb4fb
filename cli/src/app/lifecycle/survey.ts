import type { EnvironmentConfig } from "../../domain/config/resolved.js";
import { Failed } from "../../domain/errors.js";
import type { PerService } from "../../domain/fingerprint.js";
import { inOrder } from "../../domain/fingerprint.js";
import { currentRelease } from "../../domain/history.js";
import type { ReleaseId, ServiceName } from "../../domain/names.js";
import type { DriftOperation } from "../../domain/operations.js";
import { makePlan, type Plan } from "../../domain/plan.js";
import { modelsOf, type ReleaseRecord, type ServiceSpec } from "../../domain/release.js";
import { applySettlements, settleDangling } from "../../domain/settle.js";
import type { DeviceMemory } from "../../domain/strategy.js";
import { mib, ms, type MiB } from "../../domain/units.js";
import type { Context, StoredReleases } from "../../ports.js";
import { budgets, within } from "./deadline.js";
import { lookAround, type Facts } from "./observe.js";

/** What shall run, decided once it is known what is current. */
export interface Wish {
  specs: PerService<ServiceSpec>;
  rollbackTo: ReleaseRecord | null;
}

/** Records, target and plan, as they were at one moment. */
export interface Survey {
  stored: StoredReleases;
  /** Records as they will be once unfinished releases are settled. */
  records: readonly ReleaseRecord[];
  current: ReleaseRecord | null;
  facts: Facts;
  plan: Plan;
}

/** Decides from the settled records what is wished for. */
export type Decide<W extends Wish> = (current: ReleaseRecord | null, records: readonly ReleaseRecord[]) => Promise<W> | W;

/**
 * Looks at records and target and plans from them to the wish. Changes nothing.
 * @param giveUp  a release known to have failed, even when its record could not be written any more
 */
export async function survey<W extends Wish>(
  ctx: Context,
  decide: Decide<W>,
  giveUp: ReleaseId | null = null,
): Promise<Survey & { wish: W }> {
  const stored = await ctx.releases.list();
  const known = stored.records.map((record) => (record.id === giveUp ? { ...record, state: "failed" as const } : record));
  const [facts, memory] = await Promise.all([lookAround(ctx, known), knownMemory(ctx)]);
  const records = applySettlements(known, settleDangling(known, facts.seen));
  const current = currentRelease(records);
  const wish = await decide(current, records);
  const made = makePlan({
    desired: wish.specs,
    records: known,
    observed: facts.observed,
    seen: facts.seen,
    memory,
    budgets: declaredMemory(ctx.config),
    modelSizes: await modelSizes(ctx, wish.specs),
    retain: ctx.config.retain,
    keepWarm: ctx.config.timings.keepWarm,
    load: ctx.config.timings.load,
    rollbackTo: wish.rollbackTo,
  });
  return { stored, records, current, facts, plan: { ...made, drift: [...recordsToCopy(ctx, stored), ...made.drift] }, wish };
}

/**
 * None where a GPU does not say: that is no reason to show nothing. A deploy is refused by its preflight, which knows why, and asks
 * again before anything is started.
 */
async function knownMemory(ctx: Context): Promise<readonly DeviceMemory[]> {
  try {
    return await within(ctx.clock, ms(budgets.preflight), "asking for free memory", () => ctx.driver.memory());
  } catch (thrown) {
    if (thrown instanceof Failed) return [];
    throw thrown;
  }
}

/** A node that was installed again, or was away while records were written, gets them before anything is written there. */
function recordsToCopy({ nodes }: Context, { copies = [] }: StoredReleases): readonly DriftOperation[] {
  const here = copies.filter(({ host }) => nodes === undefined || (nodes.chosen ?? nodes.names).includes(host));
  const of = (state: "blank" | "behind", because: string): readonly DriftOperation[] => {
    const names = here.filter((copy) => copy.state === state).map(({ host }) => host);
    return names.length === 0 ? [] : [{ kind: "copy-records", nodes: names, because }];
  };
  return [...of("blank", "it keeps none: it is new or was installed again"), ...of("behind", "it missed the newest")];
}

/** The wish of everybody who only puts things right: what the current release runs, nothing new. */
export const keepCurrent: Decide<Wish> = (current) => ({ specs: specsOf(current), rollbackTo: null });

export function specsOf(record: ReleaseRecord | null): PerService<ServiceSpec> {
  return Object.fromEntries(inOrder(record?.services ?? {}).map(([service, release]) => [service, release.spec]));
}

/** What the models of each service take in the store here; null where one is not in it. */
async function modelSizes(ctx: Context, specs: PerService<ServiceSpec>): Promise<PerService<MiB | null>> {
  const result: Partial<Record<ServiceName, MiB | null>> = {};
  for (const [service, spec] of inOrder(specs)) {
    const stored = await Promise.all(modelsOf(spec).map((ref) => ctx.models.find(ref)));
    const known = stored.filter((model) => model !== null);
    const bytes = known.reduce((sum, model) => sum + model.bytes, 0);
    result[service] = known.length < stored.length ? null : mib(Math.ceil(bytes / 2 ** 20));
  }
  return result;
}

function declaredMemory(config: EnvironmentConfig): PerService<MiB | null> {
  const result: Partial<Record<ServiceName, MiB | null>> = {};
  for (const [service, { vramBudget }] of inOrder(config.services)) result[service] = vramBudget;
  return result;
}
