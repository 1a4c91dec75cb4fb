/** One of many processes that want the same lease: takes it, says so, holds it a moment, says that it ends, gives it back. */
import { appendFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { FileAuditLog } from "../../cli/src/adapters/audit/file-audit-log.js";
import { SystemClock } from "../../cli/src/adapters/clock/system-clock.js";
import { FileLeaseStore } from "../../cli/src/adapters/leases/file-lease-store.js";
import { LinuxProcessTable } from "../../cli/src/adapters/state/process-identity.js";
import { ms } from "../../cli/src/domain/units.js";

const [, , state = "", journal = "", rounds = "1", holdMs = "5"] = process.argv;
const clock = new SystemClock();
const name = `contender-${process.pid.toString()}`;
const audit = new FileAuditLog(state, name, clock);
const store = new FileLeaseStore({ state, name: "test/local", owner: name, clock, audit, processes: new LinuxProcessTable() });

for (let round = 0; round < Number(rounds); round++) {
  const lease = await store.acquire("contend", ms(60_000), new AbortController().signal);
  appendFileSync(journal, `took ${lease.token.toString()} ${process.pid.toString()}\n`);
  await wait(Number(holdMs));
  await lease.check();
  appendFileSync(journal, `gave ${lease.token.toString()} ${process.pid.toString()}\n`);
  await lease.release();
}
