import { Failed } from "../../cli/src/domain/errors.js";
import { ms } from "../../cli/src/domain/units.js";
import type { Clock } from "../../cli/src/ports.js";
import type { FakeInstance, Machine } from "./machine.js";

const batch = 3;

/** The index's private routes: one writer, generations by embedding model. Null for a route it does not have. */
export async function answerIndex(
  machine: Machine,
  clock: Clock,
  instance: FakeInstance,
  path: string,
  body: Record<string, unknown>,
): Promise<unknown> {
  const id = instance.is.id;
  const slow = instance.is.spec.env["SLOW_HAND_OVER"] !== undefined;
  switch (path) {
    case "/private/index":
      return {
        writer: machine.writer === id,
        sequence: machine.items.length,
        generation: instance.is.spec.env["GPUCTL_INDEX_GENERATION"] ?? null,
        lag: 0,
        items: machine.items.length,
        generations: [...machine.generations].map(([key, ids]) => ({
          key,
          vectors: ids.size,
          missing: machine.items.length - ids.size,
        })),
      };
    case "/private/generations/ensure":
      if (machine.writer !== id) throw new Failed("only the writer embeds");
      return ensure(machine, body["key"] as string, batch);
    case "/private/writer/hold":
      if (machine.writer !== id) throw new Failed("it does not write");
      await clock.sleep(ms(slow ? 3000 : 3));
      if (body["ensure"] !== null) ensure(machine, (body["ensure"] as { key: string }).key, Number.POSITIVE_INFINITY);
      machine.writer = null;
      return { sequence: machine.items.length, heldMs: 3 };
    case "/private/writer/take":
      if (machine.writer !== null && machine.writer !== id) throw new Failed(`${machine.writer} holds the writer lock`);
      machine.writer = id;
      return { sequence: machine.items.length, waitedMs: 1 };
    default:
      return null;
  }
}

function ensure(machine: Machine, key: string, most: number): { missing: number; embedded: number; unembeddable: number } {
  const held = machine.generations.get(key) ?? new Set<string>();
  machine.generations.set(key, held);
  const lacking = machine.items.filter((item) => !held.has(item.id));
  const unembeddable = lacking.filter((item) => item.text === null).length;
  const done = lacking.filter((item) => item.text !== null).slice(0, most);
  for (const item of done) held.add(item.id);
  return { missing: lacking.length - done.length, embedded: done.length, unembeddable };
}
