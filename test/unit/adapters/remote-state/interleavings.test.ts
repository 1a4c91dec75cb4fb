import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ms } from "../../../../cli/src/domain/units.js";
import type { Lease } from "../../../../cli/src/ports.js";
import { recordOf } from "../../../support/records.js";
import { temporaryDirectories } from "../../../support/temporary.js";
import { expectOneLeaseOfMany, works } from "./on-any-tools.js";
import { never, World } from "./world.js";

const temporary = temporaryDirectories();

type Step =
  | { kind: "acquire" | "check" | "write" | "release" | "break"; who: "ada" | "bob" }
  | { kind: "pass"; seconds: number }
  | { kind: "reboot" };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constantFrom("acquire", "write", "check"), who: fc.constantFrom("ada", "bob") }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom("release", "break"), who: fc.constantFrom("ada", "bob") }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("pass"), seconds: fc.constantFrom(10, 20, 31) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("reboot") }) },
  ),
  { minLength: 4, maxLength: 14 },
);

/** What must be true: who holds the lease, whether it is of this boot, and how long it has been silent. */
class Model {
  holder: "ada" | "bob" | null = null;
  booted = false;
  silent = 0;

  taken(who: "ada" | "bob"): void {
    Object.assign(this, { holder: who, booted: false, silent: 0 });
  }
  get free(): boolean {
    return this.holder === null || this.booted || this.silent > 30;
  }
  holds(who: "ada" | "bob"): boolean {
    return this.holder === who && !this.booted;
  }
}

async function follow(all: readonly Step[]): Promise<void> {
  const hosts = new World(temporary());
  const model = new Model();
  const leases = new Map<string, Lease>();
  let number = 0;
  for (const step of all) {
    if (step.kind === "pass") {
      hosts.pass(step.seconds);
      model.silent += step.seconds;
    } else if (step.kind === "reboot") {
      hosts.hosts[0]?.reboot();
      model.booted = true;
    } else {
      const person = hosts.person(step.who);
      const lease = leases.get(step.who);
      if (step.kind === "acquire") {
        const done = await works(person.leases.acquire("deploy", ms(0), never).then((taken) => leases.set(step.who, taken)));
        expect(done).toBe(model.free);
        if (done) model.taken(step.who);
      } else if (step.kind === "write") {
        number += 1;
        expect(await works(person.releases.create(recordOf(number, { author: step.who }), {}))).toBe(model.holds(step.who));
        if (!model.holds(step.who)) number -= 1;
      } else if (step.kind === "break") {
        await person.leases.break(true);
        model.holder = null;
      } else if (lease !== undefined) {
        const [holds, done] = [model.holds(step.who), await works(step.kind === "check" ? lease.check() : lease.release())];
        if (step.kind === "check") expect(done).toBe(holds);
        if (step.kind === "check" && done) model.silent = 0;
        if (step.kind === "release") leases.delete(step.who);
        if (step.kind === "release" && model.holder === step.who) model.holder = null;
      }
    }
  }
  const { records, damaged } = await hosts.person("reader").releases.list();
  expect([records.length, damaged]).toEqual([number, []]);
  for (const lease of leases.values()) await works(lease.release());
}

describe("two operators in any order", { timeout: 120_000 }, () => {
  it("never both hold the lease of a host, and one whose lease is over never writes", async () => {
    await fc.assert(fc.asyncProperty(steps, follow), { numRuns: 30 });
  });

  it("get one lease when many ask at the same moment", async () => {
    await expectOneLeaseOfMany(new World(temporary(), ["gpu-1"]));
  });
});
