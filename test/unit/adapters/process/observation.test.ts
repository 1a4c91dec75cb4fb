import { mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { InstanceFiles } from "../../../../cli/src/adapters/targets/process/instance-files.js";
import { KeeperClient } from "../../../../cli/src/adapters/targets/process/keeper-client.js";
import { observe } from "../../../../cli/src/adapters/targets/process/observation.js";
import { StateLayout } from "../../../../cli/src/adapters/targets/process/state-layout.js";
import { FakeProcessTable } from "../../../fakes/fake-process-table.js";
import { temporaryDirectories } from "../../../support/temporary.js";

const temporary = temporaryDirectories();
const id = "index-r1-00000001-a";
let layout: StateLayout;
let processes: FakeProcessTable;
const servers: Server[] = [];

beforeEach(() => {
  const state = temporary();
  layout = new StateLayout({ state, run: join(state, "run"), cache: "/c", models: "/m" });
  processes = new FakeProcessTable();
  for (const directory of ["run", "instances", "keeper"]) mkdirSync(join(state, directory));
  const document = { schemaVersion: 1, id, service: "index", release: "r1-00000001", slot: "a", env: {}, argv: [] };
  writeFileSync(layout.launchDocument(id), JSON.stringify(document));
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

const look = () =>
  observe({ layout, keeper: new KeeperClient(layout.keeperSocket), files: new InstanceFiles(layout), processes });

function desire(entry: Readonly<Record<string, unknown>>, bootId = "boot-1"): void {
  const instance = { id, desired: "open", pid: 7, startTime: 70, restarts: 2, stopAtMs: null, lastExit: null, ...entry };
  const listeners = [{ service: "index", host: "127.0.0.1", port: 1 }];
  writeFileSync(layout.desiredFile, JSON.stringify({ schemaVersion: 1, bootId, token: 1, listeners, instances: [instance] }));
}

/** A socket that answers every line with the same thing, or with nothing at all. */
function answering(socket: string, answer: unknown): Promise<void> {
  const server = createServer((connection) => {
    connection.on("error", () => undefined);
    connection.on("data", () => {
      if (answer !== null) connection.write(`${JSON.stringify(answer)}\n`);
    });
  });
  servers.push(server);
  return new Promise((resolve) => server.listen(socket, resolve));
}

describe("an environment without a keeper", () => {
  it("shows an instance that answers, by its own word", async () => {
    desire({ desired: "open" });
    await answering(layout.control(id), { ok: true, id, pid: 7, startTime: 70, traffic: "paused", inflight: 3 });
    expect((await look()).instances).toEqual([
      {
        id,
        service: "index",
        release: "r1-00000001",
        slot: "a",
        process: { state: "running", pid: 7 },
        traffic: "paused",
        restarts: 2,
        inflight: 3,
        stopsInMs: null,
      },
    ]);
  });

  it("shows an instance that hangs by what it was told, quickly", async () => {
    processes.start(7, 70);
    desire({ desired: "closed", stopAtMs: processes.uptimeMs + 5000 });
    await answering(layout.control(id), null);
    const began = performance.now();
    expect((await look()).instances).toMatchObject([
      { process: { state: "running" }, traffic: "paused", inflight: null, stopsInMs: 5000 },
    ]);
    expect(performance.now() - began).toBeLessThan(500);
  });

  it("does not take a reused number for the instance", async () => {
    processes.start(7, 71);
    desire({ lastExit: { code: null, signal: "SIGKILL" } });
    const { instances, listeners } = await look();
    expect(instances).toMatchObject([{ process: { state: "exited", code: null, signal: "SIGKILL" }, traffic: "closed" }]);
    expect(listeners).toMatchObject([{ bound: false }]);
  });

  it("says that a reboot stopped it, and that what was stopped before stays stopped", async () => {
    desire({}, "boot-0");
    expect((await look()).instances).toMatchObject([{ process: { state: "stopped-by-reboot" } }]);
    desire({ desired: "stopped" }, "boot-0");
    expect((await look()).instances).toMatchObject([{ process: { state: "stopped" } }]);
    desire({ stoppedByReboot: true, pid: null, startTime: null });
    expect((await look()).instances).toMatchObject([{ process: { state: "stopped-by-reboot" } }]);
  });

  it("does not list what nobody asked for, and survives files that make no sense", async () => {
    expect((await look()).instances).toEqual([]);
    for (const text of ["", "{half", "[]", '{"bootId":1}', '{"bootId":"boot-1","instances":[1],"listeners":3}']) {
      writeFileSync(layout.desiredFile, text);
      writeFileSync(layout.launchDocument("index-r2-00000002-a"), text);
      expect(await look()).toMatchObject({ instances: [], listeners: [], manager: { state: "absent" } });
    }
  });

  it("says so when a keeper exists and does not answer", async () => {
    processes.start(9, 90);
    writeFileSync(layout.keeperFile, JSON.stringify({ pid: 9, startTime: 90, bootId: "boot-1", version: "0.1.0", protocol: 1 }));
    expect((await look()).manager).toEqual({ state: "absent", detail: "pid 9 exists and does not answer" });
  });
});
