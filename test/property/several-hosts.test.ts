import fc from "fast-check";
import { expect, test } from "vitest";
import { continueDeploy } from "../../cli/src/app/continue.js";
import { deploy } from "../../cli/src/app/deploy.js";
import { repair } from "../../cli/src/app/repair.js";
import { CandidateFailed, GpuctlError, TargetMixed } from "../../cli/src/domain/errors.js";
import type { HostRow } from "../../cli/src/domain/host-table.js";
import { ms } from "../../cli/src/domain/units.js";
import { HostsEnvironment, type HostFault } from "../fakes/hosts-environment.js";

/** What goes wrong on which host of how many, during an upgrade. */
interface World {
  hosts: number;
  parallel: number;
  faults: readonly { host: number; fault: HostFault }[];
}

const fault: fc.Arbitrary<HostFault> = fc.record({
  method: fc.constantFrom("start", "open", "close", "stop", "health"),
  nth: fc.integer({ min: 1, max: 3 }),
  kind: fc.constantFrom("fails", "broken", "lost", "lost-late"),
});
const world: fc.Arbitrary<World> = fc.record({
  hosts: fc.integer({ min: 2, max: 4 }),
  parallel: fc.integer({ min: 1, max: 3 }),
  faults: fc.array(fc.record({ host: fc.nat(3), fault }), { minLength: 1, maxLength: 3 }),
});

interface Upgrade {
  environment: HostsEnvironment;
  first: string;
  /** What it ended with; null when it went well. */
  failure: GpuctlError | null;
}

async function upgrade({ hosts, parallel, faults }: World): Promise<Upgrade> {
  const names = ["one", "two", "three", "four"].slice(0, hosts);
  const environment = new HostsEnvironment(names);
  const { release } = await deploy(environment.ctx(), { service: undefined, lockWait: ms(0) });
  environment.base.code.wheel = "wheel-two";
  environment.trace.length = 0;
  for (const { host, fault: each } of faults) environment.faults.set(names[host % hosts] ?? "", each);
  const outcome = await deploy(environment.ctx({ parallel }), { service: undefined, lockWait: ms(0) }).then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (outcome !== null && !(outcome instanceof GpuctlError)) throw new Error("a bug, not an outcome", { cause: outcome });
  return { environment, first: release ?? "", failure: outcome };
}

const rowsOf = (failure: GpuctlError): readonly HostRow[] => failure.data?.["hosts"] as readonly HostRow[];

test("every deploy comes to an end, and its outcome says what really serves on every host", async () => {
  await fc.assert(
    fc.asyncProperty(world, async (given) => {
      const { environment, first, failure } = await upgrade(given);
      const serving = environment.names.map((name) => environment.serving(name));
      if (failure === null) {
        expect(new Set(serving.flat()).size).toBe(1);
        expect(serving.every((here) => here.length === 1 && here[0] !== first)).toBe(true);
        return;
      }
      expect(failure instanceof CandidateFailed || failure instanceof TargetMixed, failure.message).toBe(true);
      const rows = rowsOf(failure);
      for (const { node, state, now } of rows) {
        if (state === "before") expect([now, environment.serving(node)]).toEqual([first, [first]]);
        if (state === "left") expect(environment.serving(node)).toEqual([first]);
      }
      // Every host that serves anything else is named.
      const other = environment.names.filter((name) => environment.serving(name).join() !== first);
      const named = rows.filter(({ state }) => state !== "before" && state !== "left").map(({ node }) => node);
      expect(named).toEqual(expect.arrayContaining(other));
      // Where none answers any more, nothing can be said to be as it was, though traffic was moved nowhere.
      const silent = environment.cut.size === environment.names.length;
      expect(failure instanceof TargetMixed).toBe(named.length > 0 || silent);
      if (failure instanceof TargetMixed) expect(failure.nextSteps.join(" ")).toContain("gpuctl repair");
    }),
    { numRuns: 150 },
  );
}, 120_000);

test("of hosts that are all lost before traffic was moved nobody says that they serve what they did", async () => {
  const start = (kind: HostFault["kind"]): HostFault => ({ method: "start", nth: 1, kind });
  const faults = [
    { host: 0, fault: start("lost-late") },
    { host: 1, fault: start("lost") },
  ];
  const { failure, first } = await upgrade({ hosts: 2, parallel: 1, faults });
  expect(failure).toBeInstanceOf(TargetMixed);
  expect(failure?.message).toContain(`one and two could not be taken back to ${first}`);
  expect(failure?.nextSteps[0]).toBe("gpuctl repair");
});

test("traffic moves nowhere before every host is prepared, nor to the candidate after anything was taken back, nor on more hosts than allowed", async () => {
  await fc.assert(
    fc.asyncProperty(world, async (given) => {
      const { environment, first } = await upgrade(given);
      const lines = environment.trace.map((line) => line.split(" "));
      const opens = (line: readonly string[]): boolean => line[1] === "open" && line[3]?.includes(first) === false;
      const firstOpen = lines.findIndex(opens);
      if (firstOpen >= 0) {
        const started = new Set(lines.slice(0, firstOpen).flatMap(([, method, host]) => (method === "start" ? [host] : [])));
        expect(started.size).toBe(environment.names.length);
      }
      const takenBack = lines.findIndex(([, method, , id]) => method === "close" && id?.includes(first) === false);
      if (takenBack >= 0) expect(lines.findLastIndex(opens)).toBeLessThan(takenBack);
      let [now, most] = [0, 0];
      for (const line of lines.filter(opens)) {
        now += line[0] === ">" ? 1 : -1;
        most = Math.max(most, now);
      }
      expect(most).toBeLessThanOrEqual(given.parallel);
    }),
    { numRuns: 100 },
  );
}, 120_000);

test("when all hosts answer again, repair has the old release serve everywhere, or --continue the new one", async () => {
  await fc.assert(
    fc.asyncProperty(world, fc.boolean(), async (given, forward) => {
      const { environment, first, failure } = await upgrade(given);
      environment.heal();
      const goesOn = forward && failure instanceof TargetMixed;
      const release = String(failure?.data?.["release"]);
      if (goesOn) {
        const begun = continueDeploy(environment.ctx(), { lockWait: ms(0) });
        // What answered nowhere in the end, though nobody knew it, was taken back after all: then there is nothing to go on with.
        await begun.catch((thrown: unknown) => {
          expect((thrown as Error).message).toBe("there is no deploy to continue");
        });
      }
      await repair(environment.ctx(), { lockWait: ms(0) });
      const serving = environment.names.map((name) => environment.serving(name));
      const wanted = failure === null ? serving[0]?.[0] : [...new Set(serving.flat())][0];
      expect(serving).toEqual(environment.names.map(() => [wanted]));
      if (!goesOn && failure !== null) expect(wanted).toBe(first);
      if (goesOn) expect([first, release]).toContain(wanted);
    }),
    { numRuns: 100 },
  );
}, 120_000);
