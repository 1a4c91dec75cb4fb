import { ms, type Milliseconds } from "../../../../cli/src/domain/units.js";
import type { Lease } from "../../../../cli/src/ports.js";
import { FakeProcessTable } from "../../../fakes/fake-process-table.js";
import { SteppingClock } from "../../../fakes/stepping-clock.js";
import { operatorOf, TestHost, type Operator } from "../../../contract/state/remote-environment.js";
import { FaultyOperatorLine } from "./faulty-host.js";

export const never = new AbortController().signal;

/** Hosts, and people who work on them from machines of their own. */
export class World {
  readonly hosts: readonly TestHost[];
  readonly #people = new Map<
    string,
    Operator & { line: FaultyOperatorLine; clock: SteppingClock; processes: FakeProcessTable }
  >();

  constructor(folder: string, names: readonly string[] = ["gpu-1"], env?: Readonly<Record<string, string | undefined>>) {
    this.hosts = names.map((name) => new TestHost(folder, name, env));
  }

  /** Somebody on a machine of their own, whose processes nobody else can see. */
  person(
    name: string,
    heartbeat?: Milliseconds,
  ): Operator & { line: FaultyOperatorLine; clock: SteppingClock; processes: FakeProcessTable } {
    const known = this.#people.get(name);
    if (known !== undefined) return known;
    const [line, clock, processes] = [new FaultyOperatorLine(), new SteppingClock(), new FakeProcessTable()];
    processes.start(7, 70);
    const person = { owner: `${name}@${name}-laptop`, pid: 7, machine: `${name}-laptop`, processes, clock };
    const beating = heartbeat === undefined ? person : { ...person, heartbeat };
    const operator = { ...operatorOf(this.hosts, beating, line.over), line, clock, processes };
    this.#people.set(name, operator);
    return operator;
  }

  /** The same, holding the lease. */
  async working(name: string): Promise<ReturnType<World["person"]> & { lease: Lease }> {
    const person = this.person(name);
    return { ...person, lease: await person.leases.acquire("deploy", ms(0), never) };
  }

  pass(seconds: number): void {
    for (const host of this.hosts) host.pass(seconds);
  }
}
