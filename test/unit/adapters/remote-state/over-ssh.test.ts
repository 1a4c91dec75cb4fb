import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FileAuditLog } from "../../../../cli/src/adapters/audit/file-audit-log.js";
import { HostState } from "../../../../cli/src/adapters/remote-state/host-state.js";
import { ownMachine } from "../../../../cli/src/adapters/remote-state/own-machine.js";
import { RemoteLeaseStore } from "../../../../cli/src/adapters/remote-state/remote-lease-store.js";
import { RemoteReleaseFiles } from "../../../../cli/src/adapters/remote-state/remote-release-files.js";
import { ReplicatedReleaseStore } from "../../../../cli/src/adapters/remote-state/replicated-release-store.js";
import { SystemClock } from "../../../../cli/src/adapters/clock/system-clock.js";
import { GpuctlError } from "../../../../cli/src/domain/errors.js";
import { ms } from "../../../../cli/src/domain/units.js";
import { connectorTo, SshHome } from "../../../contract/host/host-world.js";
import { recordOf } from "../../../support/records.js";
import { newKey, TestSshServer } from "../../../support/ssh-server.js";
import { never } from "./world.js";

/** Asks again until it succeeds, as a person would. */
async function insisting<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof GpuctlError) || attempt === 10) throw error;
    }
  }
}

describe("state on a host by SSH", { timeout: 90_000 }, () => {
  it("is written whole and once, wherever the connection breaks", async () => {
    const userKey = newKey();
    const server = await TestSshServer.start(userKey);
    const home = new SshHome(userKey);
    home.know(server.port, server.hostKey.public);
    const connector = connectorTo(home, server.port);
    try {
      const root = join(home.folder, "state");
      const host = new HostState({ name: "box", root, connect: (signal) => connector.connect("box", signal) });
      const clock = new SystemClock();
      const audit = new FileAuditLog(home.folder, "ada", clock);
      const leases = new RemoteLeaseStore({ host, name: "demo/prod", owner: "ada@here", clock, audit, here: ownMachine() });
      const releases = new ReplicatedReleaseStore([new RemoteReleaseFiles(host)]);
      server.line.cutAfter("down", 3000);
      const lease = await insisting(() => leases.acquire("deploy", ms(60_000), never));
      const long = recordOf(1, { failure: "☃".repeat(30_000) });
      for (const [direction, bytes] of [
        ["up", 50_000],
        ["down", 400],
        ["up", 3000],
        ["down", 2500],
      ] as const) {
        server.line.cutAfter(direction, bytes);
        await insisting(() => releases.create(long, { embedder: { KEY: "s3cret" } }));
        await insisting(() => releases.update({ ...long, state: "good" }));
        expect((await insisting(() => releases.list())).records).toEqual([{ ...long, state: "good" }]);
        expect(await insisting(() => releases.secrets(long.id))).toEqual({ embedder: { KEY: "s3cret" } });
        await insisting(() => releases.remove(long.id));
        expect(readdirSync(join(root, "releases")).filter((name) => !name.startsWith(".new."))).toEqual([]);
      }
      await insisting(() => lease.release());
    } finally {
      await connector.close();
      await server.close();
      home.remove();
    }
  });
});
