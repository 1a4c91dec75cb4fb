import { join } from "node:path";
import { FakeProcessTable } from "../../fakes/fake-process-table.js";
import { SteppingClock } from "../../fakes/stepping-clock.js";
import { temporaryDirectories } from "../../support/temporary.js";
import { busyboxTools, operatorOf, TestHost } from "./remote-environment.js";
import { describeState } from "./state-suite.js";
import type { Party, StateWorld } from "./state-world.js";

const temporary = temporaryDirectories();

function worldOn(names: readonly string[], pathOf: (folder: string) => string | undefined): StateWorld {
  const folder = temporary();
  const path = pathOf(folder);
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

describeState("on one host", "lease", () => worldOn(["gpu-1"], () => process.env["PATH"]));
describeState("on three hosts", "lease", () => worldOn(["gpu-2", "gpu-1", "gpu-3"], () => process.env["PATH"]));
describeState("on one host with BusyBox alone", "lease", () => worldOn(["gpu-1"], busyboxTools));
