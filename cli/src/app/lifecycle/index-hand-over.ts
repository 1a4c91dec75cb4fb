import { Failed } from "../../domain/errors.js";
import type { InstanceId } from "../../domain/names.js";
import type { RolloutOperation } from "../../domain/operations.js";
import type { VectorSpace } from "../../domain/spec.js";
import { ask } from "./answers.js";
import { budgets, seconds, stopIfAsked } from "./deadline.js";
import { writes } from "./observe.js";
import { step, type Session } from "./session.js";

/** Longest time in which writes are held while the index changes hands; beyond it the switch is undone. */
export const longestHoldMs = 1000;
const batchBudgetMs = 60_000;
const batchesWithoutProgress = 3;

export type Generation = Extract<RolloutOperation, { kind: "build-generation" }>;
export type HandOver = Extract<RolloutOperation, { kind: "hand-over" }>;

/** What an index needs to fill a generation. */
export interface Ensure {
  key: string;
  dimension: number;
  embedder: string;
}

export function ensureOf(session: Session, space: VectorSpace, embedder: InstanceId): Ensure {
  return { key: space.generation, dimension: space.dimension, embedder: session.ctx.driver.privateAddress(embedder) };
}

/** Embeds what a generation lacks, through the index that writes now, until nothing is missing. */
export async function buildGeneration(session: Session, writer: InstanceId, ensure: Ensure): Promise<string> {
  const { ctx } = session;
  const began = ctx.clock.monotonic();
  let embedded = 0;
  let idle = 0;
  for (;;) {
    await session.target.check();
    stopIfAsked(ctx.signal);
    const answer = await ask(ctx, writer, { method: "POST", path: "/private/generations/ensure", body: ensure }, batchBudgetMs);
    const { missing, embedded: now, unembeddable } = readEnsure(answer);
    if (unembeddable > 0) throw cannotEmbed(ensure, unembeddable);
    embedded += now;
    tell(session, embedded, missing, ctx.clock.monotonic() - began);
    if (missing === 0) return `${embedded} items embedded in ${seconds(ctx.clock.monotonic() - began)}`;
    idle = now === 0 ? idle + 1 : 0;
    if (idle >= batchesWithoutProgress)
      throw new Failed(`the index makes no progress with generation ${ensure.key}: ${missing} items are missing`);
  }
}

function cannotEmbed(ensure: Ensure, unembeddable: number): Failed {
  return new Failed(
    `${unembeddable} ${unembeddable === 1 ? "item" : "items"} of the index cannot be brought into generation ${ensure.key}`,
    {
      because: "they were added without text, so no other model can embed them; add them again with text or delete them",
      data: { unembeddable },
    },
  );
}

function readEnsure(answer: unknown): { missing: number; embedded: number; unembeddable: number } {
  const { missing, embedded, unembeddable } = (answer ?? {}) as Record<"missing" | "embedded" | "unembeddable", unknown>;
  if (typeof missing !== "number" || typeof embedded !== "number")
    throw new Failed("the index's answer about its generation cannot be read");
  return { missing, embedded, unembeddable: typeof unembeddable === "number" ? unembeddable : 0 };
}

function tell(session: Session, done: number, missing: number, elapsedMs: number): void {
  const perSecond = done / Math.max(0.001, elapsedMs / 1000);
  const eta = done > 0 && missing > 0 ? { etaSeconds: missing / perSecond } : {};
  session.ctx.progress.emit({
    kind: "amount",
    label: "re-embedding",
    done,
    total: done + missing,
    unit: "items",
    perSecond,
    ...eta,
  });
}

/**
 * Moves the writer from one index to another, and measures the gap as a writer's client sees it: from the request that holds
 * writes to the answer that takes over.
 */
export async function moveWriter(
  session: Session,
  from: InstanceId | null,
  to: InstanceId,
  ensure: Ensure | null,
): Promise<{ gapMs: number }> {
  const { ctx } = session;
  await session.target.check();
  const began = ctx.clock.monotonic();
  if (from !== null) {
    const body = { holdMs: longestHoldMs, successor: ctx.driver.privateAddress(to), ensure };
    await ask(ctx, from, { method: "POST", path: "/private/writer/hold", body }, budgets.handOver);
  }
  await ask(ctx, to, { method: "POST", path: "/private/writer/take", body: { deadlineMs: longestHoldMs } }, budgets.handOver);
  return { gapMs: Math.round(ctx.clock.monotonic() - began) };
}

/** Puts the writer where it belongs, whatever state a failed or killed hand-over left. A dead holder's lock is already free. */
export async function bringWriterTo(session: Session, to: InstanceId, others: readonly InstanceId[]): Promise<void> {
  const { ctx } = session;
  if ((await writes(ctx, to)) === true) return;
  let holder: InstanceId | null = null;
  for (const other of others) if ((await writes(ctx, other)) === true) holder = other;
  const { gapMs } = await moveWriter(session, holder, to, null);
  step(ctx, `writer: ${to} (gap ${seconds(gapMs)})`);
}
