import { expect, test } from "vitest";
import { withLease } from "../../../cli/src/app/lifecycle/session.js";
import { renewStandbys } from "../../../cli/src/app/lifecycle/stand-by.js";
import { hostInstanceId } from "../../../cli/src/domain/compose/names.js";
import type { InstanceId, ServiceName } from "../../../cli/src/domain/names.js";
import { ms } from "../../../cli/src/domain/units.js";
import type { InstanceSpec, Lease, Observation, TargetDriver } from "../../../cli/src/ports.js";
import { Environment } from "../../fakes/environment.js";
import { InMemoryDriver } from "../../fakes/in-memory-driver.js";
import type { Fault } from "../../fakes/service-behaviour.js";
import { current, runDeploy } from "../../support/lifecycle.js";

/** A target where a CPU instance is to stand behind the embedder, and has a fault. */
class WithStandby extends InMemoryDriver {
  readonly opened: InstanceId[] = [];
  readonly #fault: Fault | "";

  constructor({ machine, clock }: Environment, fault: Fault | "") {
    super(machine, clock);
    this.#fault = fault;
  }

  override async observe(): Promise<Observation> {
    const missing = { node: "box", service: "embedder", instance: null, wanted: true, state: "absent" } as const;
    return { ...(await super.observe()), standbys: [missing] };
  }

  async standBy(
    service: ServiceName,
    instance: InstanceSpec | null,
    secrets: Readonly<Record<string, string>>,
    prove: (there: TargetDriver, id: InstanceId) => Promise<void>,
    lease: Lease,
  ): Promise<void> {
    if (instance === null) throw new Error("one is wanted");
    const spec = { ...instance.spec, env: { ...instance.spec.env, FAULT: this.#fault } };
    const id = hostInstanceId(service, instance.release, "cpu");
    await this.start({ ...instance, id, spec }, secrets, lease);
    await prove(this, id);
    this.opened.push(id);
  }
}

/** What was opened behind the service, and what was said. */
async function renewed(fault: Fault | ""): Promise<{ opened: readonly InstanceId[]; said: readonly string[] }> {
  const environment = new Environment(["embedder"]);
  await runDeploy(environment);
  const record = current(environment);
  if (record === null) throw new Error("nothing is current");
  const { ctx, events } = environment.cli();
  const driver = new WithStandby(environment, fault);
  await withLease({ ...ctx, driver }, "repair", ms(0), (session) => renewStandbys(session, record));
  return { opened: driver.opened, said: events.flatMap((event) => ("text" in event ? [event.text] : [])) };
}

test("what answers in place of a service is opened once it has passed the correctness gate, which is said", async () => {
  const { opened, said } = await renewed("");
  expect(opened).toEqual([expect.stringMatching(/^embedder-r1-.*-cpu$/)]);
  expect(said.join("\n")).toMatch(/gates +embedder-r1-\S+-cpu: 4 probes, lowest cosine 1\.000000/);
});

test.each([
  ["wrong-vectors", /lowest cosine to the reference/],
  ["nan", /no finite number/],
  ["http-500", /500/],
] as const)("one with %s is never opened, and that is a warning", async (fault, why) => {
  const { opened, said } = await renewed(fault);
  expect(opened).toEqual([]);
  expect(said.join("\n")).toMatch(/embedder has no CPU instance behind it: [^]*gpuctl repair tries again/);
  expect(said.join("\n")).toMatch(why);
});
