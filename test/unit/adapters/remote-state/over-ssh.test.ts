import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
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
import { thisMachineAs } from "../../../contract/state/remote-environment.js";
import { recordOf } from "../../../support/records.js";
import { newKey, TestSshServer } from "../../../support/ssh-server.js";
import { temporaryDirectories } from "../../../support/temporary.js";
import { never } from "./world.js";

const temporary = temporaryDirectories();

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
      const host = new HostState({ name: "box", root, sudo: false, connect: (signal) => connector.connect("box", signal) });
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

describe("an account that is not root", () => {
  it.runIf(process.getuid?.() === 0)("becomes root by sudo, which never asks for a password", async () => {
    const folder = temporary();
    const tools = join(folder, "tools");
    mkdirSync(tools);
    const told = join(folder, "told");
    writeFileSync(join(tools, "sudo"), `#!/bin/sh\necho "$1 $2 $3" >>"${told}"\nshift\nexec "$@"\n`);
    chmodSync(join(tools, "sudo"), 0o755);
    chmodSync(folder, 0o777);
    const local = await thisMachineAs("box", { PATH: `${tools}:${process.env["PATH"] ?? ""}` });
    const account = ["setpriv", "--reuid=65534", "--clear-groups"];
    const connect = (): Promise<typeof local> =>
      Promise.resolve({
        ...local,
        name: "box",
        run: (command, options) =>
          local.run({ ...command, argv: [...account, ...command.argv] as [string, ...string[]] }, options),
      });
    const host = new HostState({ name: "box", root: join(folder, "a b"), sudo: true, connect });
    expect(await new RemoteReleaseFiles(host).key("ab".repeat(32))).toBe("ab".repeat(32));
    expect(readFileSync(told, "utf8")).toBe("-n sh -c\n");
    expect(existsSync(join(folder, "a b/hmac.key"))).toBe(true);
  });
});
