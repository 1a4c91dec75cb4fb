import { expect, test } from "vitest";
import { SteadyClient } from "../support/bed/stack.js";
import { until } from "../support/until.js";

/** A service whose answers wait until they are let go. */
class Holding {
  waiting: (() => void)[] = [];
  ask = (): Promise<Response> =>
    new Promise((resolve) =>
      this.waiting.push(() => {
        resolve(new Response("fine"));
      }),
    );
  release(): void {
    for (const answer of this.waiting.splice(0)) answer();
  }
}

test("a steady client goes on asking while it waits, up to its limit, and counts an answer that comes late", async () => {
  const service = new Holding();
  const client = new SteadyClient(service.ask, 10, 3);
  const began = performance.now();
  await until(() => service.waiting.length === 3, "three wait for their answers");
  await until(() => performance.now() - began > 4100, "it is late");
  expect(service.waiting).toHaveLength(3);
  service.release();
  const stopping = client.stop();
  await until(() => {
    service.release();
    return client.answers >= 3;
  }, "they are answered");
  await stopping;
  expect(client.failures).toEqual({});
  expect(client.longestMs).toBeGreaterThan(4000);
  expect(Object.keys(client.lapses)).toEqual([expect.stringMatching(/^answered after \d+ ms$/)]);
});

test("a client whose answers are prompt has nothing to tell", async () => {
  const client = new SteadyClient(() => Promise.resolve(new Response("fine")), 5);
  await until(() => client.answers > 5, "it has asked a few times");
  const { seconds, perSecond } = await client.stop();
  expect(seconds).toBeGreaterThan(0);
  expect(perSecond * seconds).toBeCloseTo(client.answers);
  expect(client.lapses).toEqual({});
  expect(client.total).toBe(client.answers);
});
