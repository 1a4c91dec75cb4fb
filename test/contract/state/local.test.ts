import { join } from "node:path";
import { FileAuditLog } from "../../../cli/src/adapters/audit/file-audit-log.js";
import { FileLeaseStore } from "../../../cli/src/adapters/leases/file-lease-store.js";
import { FileReleaseStore } from "../../../cli/src/adapters/releases/file-release-store.js";
import { FakeProcessTable } from "../../fakes/fake-process-table.js";
import { SteppingClock } from "../../fakes/stepping-clock.js";
import { temporaryDirectories } from "../../support/temporary.js";
import { describeState } from "./state-suite.js";

const temporary = temporaryDirectories();

describeState("in files of this machine", "json", () => {
  const state = join(temporary(), "state");
  const clock = new SteppingClock();
  const processes = new FakeProcessTable();
  return {
    clock,
    processes,
    party(pid) {
      if (processes.startTime(pid) === null) processes.start(pid, pid * 10);
      const owner = `p${pid}@here`;
      const audit = new FileAuditLog(state, owner, clock);
      const leases = new FileLeaseStore({ state, name: "demo/prod", owner, clock, audit, processes, pid });
      return { audit, leases, releases: new FileReleaseStore(state) };
    },
    files: (path) => [join(state, path)],
    pass: (seconds) => clock.pass(seconds * 1000),
    reboot: () => (processes.bootId = "boot-2"),
  };
});
