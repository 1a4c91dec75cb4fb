import { appendFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { expect, it } from "vitest";
import { PreflightRefused } from "../../../cli/src/domain/errors.js";
import { ms } from "../../../cli/src/domain/units.js";
import { never, type StateWorld } from "./state-world.js";

/** What every store of leases promises. */
export function describeLeases(makeWorld: () => StateWorld, suffix: string): void {
  it("are free before anybody took one", async () => {
    const { leases } = makeWorld().party(1);
    expect(await leases.holder()).toBeNull();
    expect(await leases.break(false)).toBeNull();
  });

  it("are held by one command, and the refusal names it and what it does", async () => {
    const world = makeWorld();
    await world.party(1).leases.acquire("deploy", ms(0), never);
    const refusal: unknown = await world
      .party(2)
      .leases.acquire("rollback", ms(0), never)
      .catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(PreflightRefused);
    expect((refusal as PreflightRefused).because).toMatch(/p1@here running `gpuctl deploy` \(pid 1, since/);
    expect((refusal as PreflightRefused).nextSteps.join()).toContain("--lock-wait");
    expect(await world.party(2).leases.holder()).toMatchObject({ token: 1, owner: "p1@here", command: "deploy", state: "live" });
  });

  it("go to the next one when they are given back, with a higher token", async () => {
    const world = makeWorld();
    const first = await world.party(1).leases.acquire("deploy", ms(0), never);
    await first.check();
    await first.release();
    await first.release();
    expect(await world.party(2).leases.holder()).toMatchObject({ state: "released" });
    const second = await world.party(2).leases.acquire("deploy", ms(0), never);
    expect(second.token).toBe(first.token + 1);
    await expect(first.check()).rejects.toThrow(/lost/);
    await second.check();
    expect(await world.party(3).audit.read(10)).toEqual([]);
  });

  it("are waited for as long as was asked, and not past that, nor past an interruption", async () => {
    const world = makeWorld();
    const first = await world.party(1).leases.acquire("deploy", ms(0), never);
    await expect(world.party(2).leases.acquire("deploy", ms(3000), never)).rejects.toThrow(/another gpuctl/);
    const interrupted = AbortSignal.abort(new Error("stopped"));
    await expect(world.party(2).leases.acquire("deploy", ms(5000), interrupted)).rejects.toThrow("stopped");
    const waiting = world.party(2).leases.acquire("deploy", ms(600_000), never);
    await world.clock.sleep(ms(3000));
    await first.release();
    expect((await waiting).token).toBe(2);
  });

  it("are lost at once by a process of this machine that is gone, with a line in the audit", async () => {
    const world = makeWorld();
    const first = await world.party(1).leases.acquire("deploy", ms(0), never);
    world.processes.end(1);
    expect(await world.party(2).leases.holder()).toMatchObject({ state: "gone" });
    const second = await world.party(2).leases.acquire("repair", ms(0), never);
    expect(second.token).toBe(2);
    await expect(first.check()).rejects.toMatchObject({ because: expect.stringMatching(/newer lease/) as unknown });
    const lines = await world.party(2).audit.read(10);
    expect(lines[0]).toMatchObject({
      action: "lease-takeover",
      detail: expect.stringMatching(/p1@here.*its process is gone/) as unknown,
    });
  });

  it("are lost by a process whose number another one has now", async () => {
    const world = makeWorld();
    await world.party(1).leases.acquire("deploy", ms(0), never);
    world.processes.start(1, 999);
    expect(await world.party(2).leases.holder()).toMatchObject({ state: "gone" });
  });

  it("are lost by a reboot of the machine they lie on", async () => {
    const world = makeWorld();
    await world.party(1).leases.acquire("deploy", ms(0), never);
    world.reboot();
    expect(await world.party(2).leases.holder()).toMatchObject({ state: "gone" });
    expect((await world.party(2).leases.acquire("deploy", ms(0), never)).token).toBe(2);
    expect((await world.party(2).audit.read(1))[0]?.detail).toMatch(/booted since/);
  });

  it("expire 30 s after the last heartbeat, whatever the date does", async () => {
    const world = makeWorld();
    const first = await world.party(1).leases.acquire("deploy", ms(0), never);
    world.clock.setBack(86_400_000);
    world.pass(29);
    await expect(world.party(2).leases.acquire("deploy", ms(0), never)).rejects.toThrow(PreflightRefused);
    world.pass(3);
    expect(await world.party(2).leases.holder()).toMatchObject({ state: "expired" });
    await world.party(2).leases.acquire("deploy", ms(0), never);
    await expect(first.check()).rejects.toThrow(/lost/);
    await first.release();
    expect(await world.party(3).leases.holder()).toMatchObject({ owner: "p2@here", state: "live" });
    expect((await world.party(3).audit.read(1))[0]?.detail).toMatch(/no heartbeat for 30 s/);
  });

  it("are broken only by force while their holder lives, and then it knows", async () => {
    const world = makeWorld();
    const first = await world.party(1).leases.acquire("deploy", ms(0), never);
    await expect(world.party(2).leases.break(false)).rejects.toBeInstanceOf(PreflightRefused);
    await first.check();
    expect(await world.party(2).leases.break(true)).toMatchObject({ owner: "p1@here", state: "live" });
    await expect(first.check()).rejects.toThrow(/lost/);
    expect(await world.party(2).leases.holder()).toMatchObject({ state: "released", token: 2 });
    expect((await world.party(2).audit.read(1))[0]?.detail).toMatch(/broken by force/);
    expect(await world.party(2).leases.break(true)).toBeNull();
  });

  it("are broken without force when nobody holds them any more", async () => {
    const world = makeWorld();
    await world.party(1).leases.acquire("deploy", ms(0), never);
    world.processes.end(1);
    expect(await world.party(2).leases.break(false)).toMatchObject({ state: "gone" });
  });

  it("count a file that cannot be read as nobody's, and do not use its token again", async () => {
    const world = makeWorld();
    await (await world.party(1).leases.acquire("deploy", ms(0), never)).release();
    for (const file of world.files(`leases/00000002.${suffix}`)) writeFileSync(file, "{half");
    expect((await world.party(2).leases.acquire("deploy", ms(0), never)).token).toBe(3);
  });

  it("keep only the newest few files, pass over foreign ones, and never count backwards", async () => {
    const world = makeWorld();
    for (let token = 1; token <= 12; token++) {
      const lease = await world.party(1).leases.acquire("deploy", ms(0), never);
      expect(lease.token).toBe(token);
      await lease.release();
      for (const file of world.files("leases/x $(id).lease")) appendFileSync(file, "foreign\n");
    }
    for (const file of world.files("leases/any")) expect(readdirSync(dirname(file)).length).toBeLessThan(30);
  });
}
