/** One of several operators at once, as a process: takes the lease of all hosts, writes a release under it, gives it back. */
import { appendFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { SystemClock } from "../../../../cli/src/adapters/clock/system-clock.js";
import { ownMachine } from "../../../../cli/src/adapters/remote-state/own-machine.js";
import { ms } from "../../../../cli/src/domain/units.js";
import { operatorOf, TestHost } from "../../../contract/state/remote-environment.js";
import { recordOf } from "../../../support/records.js";

/** A line of the journal, written only while the lease is held. */
export interface JournalLine {
  what: "took" | "gave";
  token: number;
  pid: number;
}

const [, , folder = "", names = "", journal = "", rounds = "1", holdMs = "0", machine = ""] = process.argv;
const { id, processes } = ownMachine();
const person = { owner: `o${process.pid}@here`, pid: process.pid, machine: machine || id, processes, clock: new SystemClock() };
const hosts = names.split(",").map((name) => new TestHost(folder, name, { PATH: process.env["PATH"] }, true));
const { leases, releases } = operatorOf(hosts, person);
const tell = (line: JournalLine): void => appendFileSync(journal, `${JSON.stringify(line)}\n`);

for (let round = 0; round < Number(rounds); round++) {
  const lease = await leases.acquire("contend", ms(120_000), new AbortController().signal);
  const { token } = lease;
  tell({ what: "took", token, pid: process.pid });
  await wait(Number(holdMs));
  await releases.create(recordOf(token, { author: person.owner }), { embedder: { KEY: person.owner } });
  await releases.update(recordOf(token, { author: person.owner, state: "good" }));
  tell({ what: "gave", token, pid: process.pid });
  await lease.release();
}
