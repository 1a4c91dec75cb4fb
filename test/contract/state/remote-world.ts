import { join } from "node:path";
import { FakeProcessTable } from "../../fakes/fake-process-table.js";
import { SteppingClock } from "../../fakes/stepping-clock.js";
import { operatorOf, TestHost } from "./remote-environment.js";
import type { Party, StateWorld } from "./state-world.js";

/** Hosts of the tests as a world of the state's contract. @param path  where they find their tools */
export function worldOn(folder: string, names: readonly string[], path: string | undefined): StateWorld {
  const hosts = names.map((name) => new TestHost(folder, name, { PATH: path }));
  const clock = new SteppingClock();
  const processes = new FakeProcessTable();
  const parties = new Map<number, Party>();
  return {
    clock,
    processes,
    party(pid) {
      if (processes.startTime(pid) === null) processes.start(pid, pid * 10);
      const person = { owner: `p${pid}@here`, pid, machine: "here", processes, clock };
      const party = parties.get(pid) ?? operatorOf(hosts, person);
      parties.set(pid, party);
      return party;
    },
    files: (path) => hosts.map(({ root }) => join(root, path)).sort(),
    pass(seconds) {
      clock.pass(seconds * 1000);
      for (const host of hosts) host.pass(seconds);
    },
    reboot() {
      for (const host of hosts) host.reboot();
    },
  };
}
