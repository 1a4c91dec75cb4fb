import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { fencedStatus } from "../../../../cli/src/adapters/remote-state/fence.js";
import { ms } from "../../../../cli/src/domain/units.js";
import { temporaryDirectories } from "../../../support/temporary.js";
import { until } from "../../../support/until.js";
import { expectGuarded, runGuarded } from "./on-any-tools.js";
import { never, World } from "./world.js";

const temporary = temporaryDirectories();
const leaseFiles = (root: string): readonly string[] =>
  readdirSync(join(root, "leases")).filter((name) => name.endsWith(".lease"));

function world(): { world: World; root: string } {
  const made = new World(temporary());
  return { world: made, root: made.hosts[0]?.root ?? "" };
}

describe("a lease on a host", () => {
  it("of somebody on another machine is judged by its heartbeat alone, whatever runs here", async () => {
    const { world: hosts } = world();
    await hosts.working("ada");
    const bob = hosts.person("bob");
    bob.processes.end(7);
    expect(await bob.leases.holder()).toMatchObject({ owner: "ada@ada-laptop", pid: 7, state: "live" });
    hosts.pass(29);
    expect(await bob.leases.holder()).toMatchObject({ state: "live" });
    hosts.pass(3);
    expect(await bob.leases.holder()).toMatchObject({ state: "expired" });
  });

  it("lives as long as its holder shows that it does", async () => {
    const { world: hosts } = world();
    const ada = await hosts.working("ada");
    for (let minute = 0; minute < 4; minute++) {
      hosts.pass(25);
      await ada.lease.check();
    }
    expect(await hosts.person("bob").leases.holder()).toMatchObject({ token: 1, state: "live" });
  });

  it("shows that by itself, and stops when it was lost", async () => {
    const { world: hosts } = world();
    const ada = hosts.person("ada", ms(40));
    await ada.leases.acquire("deploy", ms(0), never);
    const bob = hosts.person("bob");
    for (let minute = 0; minute < 3; minute++) {
      hosts.pass(60);
      await until(async () => (await bob.leases.holder())?.state === "live", "a heartbeat arrives");
    }
    await bob.leases.break(true);
    const beats = (): number => ada.line.commands.length;
    let before = -1;
    await until(async () => {
      const still = before === beats();
      before = beats();
      await wait(200);
      return still;
    }, "it beats no more");
    expect(await bob.leases.holder()).toMatchObject({ token: 2, state: "released" });
  });

  it("knows nothing of the clock of its holder's machine", async () => {
    const { world: hosts } = world();
    const ada = await hosts.working("ada");
    ada.clock.setBack(10 * 365 * 86_400_000);
    ada.clock.pass(86_400_000);
    await ada.lease.check();
    expect(await hosts.person("bob").leases.holder()).toMatchObject({ state: "live" });
    await expect(hosts.person("bob").leases.acquire("deploy", ms(0), never)).rejects.toMatchObject({ exit: "preflightRefused" });
  });

  it("that ended by a reboot of the host is not kept alive by a holder that still runs", async () => {
    const { world: hosts } = world();
    const ada = await hosts.working("ada");
    hosts.hosts[0]?.reboot();
    await expect(ada.lease.check()).rejects.toMatchObject({ because: "the host has booted since" });
    expect(await hosts.person("bob").leases.holder()).toMatchObject({ state: "gone" });
  });

  it.each(["answer", "input", "before"] as const)(
    "is taken and given back once when the connection is lost: %s",
    async (loss) => {
      const { world: hosts, root } = world();
      const ada = hosts.person("ada");
      ada.line.losses.push(loss);
      const lease = await ada.leases.acquire("deploy", ms(0), never);
      expect([lease.token, leaseFiles(root)]).toEqual([1, ["00000001.lease"]]);
      ada.line.losses.push(loss);
      await lease.check();
      ada.line.losses.push(loss, loss);
      await expect(lease.release()).rejects.toMatchObject({ exit: "targetUnreachable" });
      await lease.release();
      expect((await hosts.working("bob")).lease.token).toBe(2);
    },
  );

  it("is not what another one of the same number on a host that was installed again is", async () => {
    const { world: hosts, root } = world();
    const ada = await hosts.working("ada");
    rmSync(root, { recursive: true });
    const bob = await hosts.working("bob");
    expect(bob.lease.token).toBe(ada.lease.token);
    await expect(ada.lease.check()).rejects.toThrow(/lost/);
    await ada.lease.release();
    await bob.lease.check();
    expect(await hosts.person("eve").leases.holder()).toMatchObject({ owner: "bob@bob-laptop", state: "live" });
  });

  it("survives files that were damaged: numbers that are none, a beat that was cut", async () => {
    const { world: hosts, root } = world();
    const ada = await hosts.working("ada");
    writeFileSync(join(root, "leases/00000001.beat"), "08 09");
    writeFileSync(join(root, "leases/99999999999999999999.lease"), "x");
    writeFileSync(join(root, "leases/$(touch gone).lease"), "x");
    expect(await hosts.person("bob").leases.holder()).toMatchObject({ token: 1, state: "expired" });
    await ada.lease.check();
    expect(await hosts.person("bob").leases.holder()).toMatchObject({ token: 1, state: "live" });
  });
});

describe("a guarded script", () => {
  it.each([[["dash"]], [["bash", "--posix"]]] as [readonly [string, ...string[]]][])(
    "runs under %j only while its lease is the newest, of this boot, and held",
    (shell) => expectGuarded(shell, world().world),
  );

  it("does not run for a lease that was given back, broken, or is on a host that was installed again", async () => {
    const { world: hosts, root } = world();
    const ada = await hosts.working("ada");
    const guards = [ada.states[0]?.guard() ?? ""];
    await ada.lease.release();
    expect(() => ada.states[0]?.guard()).toThrow(/without the lease/);
    const bob = await hosts.working("bob");
    guards.push(bob.states[0]?.guard() ?? "");
    await hosts.person("eve").leases.break(true);
    const eve = await hosts.working("eve");
    guards.push(eve.states[0]?.guard() ?? "");
    expect(guards.map((guard) => runGuarded(["sh"], guard).status)).toEqual([fencedStatus, fencedStatus, 0]);
    rmSync(root, { recursive: true });
    expect(runGuarded(["sh"], guards[2] ?? "")).toMatchObject({ status: fencedStatus, stdout: "" });
    expect(existsSync(root)).toBe(false);
  });
});
