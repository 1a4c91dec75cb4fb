import type { DeviceSight } from "../../domain/compose/device-evidence.js";
import { judgeSeenProof, saidToHold, type SeenProof } from "../../domain/compose/device-proof.js";
import { judgeProof } from "../../domain/gates.js";
import type { InstanceId } from "../../domain/names.js";
import type { PlannedInstance } from "../../domain/operations.js";
import type { ServiceSpec } from "../../domain/release.js";
import { ms } from "../../domain/units.js";
import type { Context } from "../../ports.js";
import { ask } from "./answers.js";
import { budgets, stopIfAsked, within } from "./deadline.js";

/** Has an instance prove where it computes; where its target can look at the device, what is seen meanwhile has to agree. */
export async function takeProof(ctx: Context, instance: PlannedInstance): Promise<SeenProof> {
  const { id, spec } = instance;
  const prove = (): Promise<unknown> => askProof(ctx, id);
  const look = ctx.driver.deviceSight?.bind(ctx.driver);
  if (look === undefined) return judgeProof(spec, await prove());
  const looking = within(ctx.clock, ms(budgets.proof), `looking at the device of ${id}`, () => look(instance));
  const { answer, sight } = await provingUntilSeen(ctx, prove, looking);
  if (sight === null) return judgeProof(spec, answer);
  const [expectedMiB, neighboursMiB] = [await leastMemory(ctx, spec), await heldBy(ctx, sight.neighbours)];
  return judgeSeenProof(spec, answer, sight, { expectedMiB, neighboursMiB });
}

const askProof = (ctx: Context, id: InstanceId): Promise<unknown> =>
  ask(ctx, id, { method: "POST", path: "/private/proof", body: {} }, budgets.proof);

/** What instances hold of their GPU at most, by their own word, MiB; null when one does not tell. */
async function heldBy(ctx: Context, ids: readonly InstanceId[]): Promise<number | null> {
  const held = await Promise.all(ids.map((id) => askProof(ctx, id).then(saidToHold, () => null)));
  const known = held.filter((amount) => amount !== null);
  return known.length < held.length ? null : known.reduce((sum, amount) => sum + amount, 0);
}

/** Asks again and again until the look has ended, so that it falls into inferences. */
async function provingUntilSeen(
  ctx: Context,
  prove: () => Promise<unknown>,
  looking: Promise<DeviceSight | null>,
): Promise<{ answer: unknown; sight: DeviceSight | null }> {
  const over = new AbortController();
  const settled = looking.finally(() => {
    over.abort();
  });
  // A proof that fails comes first; then nobody asks what was seen.
  settled.catch(() => undefined);
  let answer: unknown;
  do {
    stopIfAsked(ctx.signal);
    answer = await prove();
  } while (!over.signal.aborted);
  return { answer, sight: await settled };
}

/** What loading a spec's model takes at least, MiB: the size of its files. Null when nobody knows. */
async function leastMemory(ctx: Context, { model }: ServiceSpec): Promise<number | null> {
  const stored = model === null ? null : await ctx.models.find(model);
  return stored === null ? null : Math.round(stored.bytes / 1024 / 1024);
}
