import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { FileAuditLog } from "../../../cli/src/adapters/audit/file-audit-log.js";
import { FileLeaseStore } from "../../../cli/src/adapters/leases/file-lease-store.js";
import { PreflightRefused } from "../../../cli/src/domain/errors.js";
import { ms } from "../../../cli/src/domain/units.js";
import { FakeProcessTable } from "../../fakes/fake-process-table.js";
import { SteppingClock } from "../../fakes/stepping-clock.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();
const never = new AbortController().signal;

let state: string;
let clock: SteppingClock;
let processes: FakeProcessTable;
let audit: FileAuditLog;

beforeEach(() => {
  state = join(temporary(), "state");
  clock = new SteppingClock();
  processes = new FakeProcessTable();
  audit = new FileAuditLog(state, "tester@here", clock);
});

/** The lease store as one process sees it. */
function seenBy(pid: number): FileLeaseStore {
  processes.start(pid, pid * 10);
  return new FileLeaseStore({ state, name: "demo/local", owner: `p${pid.toString()}@here`, clock, audit, processes, pid });
}

describe("a lease", () => {
  it("is free before anybody took it", async () => {
    expect(await seenBy(1).holder()).toBeNull();
    expect(await seenBy(1).break(false)).toBeNull();
  });

  it("is held by one process, and the refusal names it and what it does", async () => {
    await seenBy(1).acquire("deploy", ms(0), never);
    const refusal: unknown = await seenBy(2)
      .acquire("rollback", ms(0), never)
      .catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(PreflightRefused);
    expect((refusal as PreflightRefused).because).toMatch(/p1@here running `gpuctl deploy` \(pid 1, since/);
    expect((refusal as PreflightRefused).nextSteps.join()).toContain("--lock-wait");
    expect(await seenBy(2).holder()).toMatchObject({ token: 1, owner: "p1@here", command: "deploy", state: "live" });
  });

  it("goes to the next one when it is released, with a higher token", async () => {
    const first = await seenBy(1).acquire("deploy", ms(0), never);
    await first.release();
    await first.release();
    expect(await seenBy(2).holder()).toMatchObject({ state: "released" });
    const second = await seenBy(2).acquire("deploy", ms(0), never);
    expect(second.token).toBe(first.token + 1);
    await expect(first.check()).rejects.toThrow(/lost/);
    await second.check();
    expect(await audit.read(10)).toEqual([]);
  });

  it("is waited for as long as was asked", async () => {
    const first = await seenBy(1).acquire("deploy", ms(0), never);
    const waiting = seenBy(2).acquire("deploy", ms(10_000), never);
    await clock.sleep(ms(3000));
    await first.release();
    expect((await waiting).token).toBe(2);
  });

  it("is not waited for past that, nor past an interruption", async () => {
    await seenBy(1).acquire("deploy", ms(0), never);
    await expect(seenBy(2).acquire("deploy", ms(5000), never)).rejects.toThrow(/another gpuctl/);
    const interrupted = AbortSignal.abort(new Error("stopped"));
    await expect(seenBy(2).acquire("deploy", ms(5000), interrupted)).rejects.toThrow("stopped");
  });

  it("is lost at once by a process that is gone, with a line in the audit", async () => {
    const first = await seenBy(1).acquire("deploy", ms(0), never);
    processes.end(1);
    expect(await seenBy(2).holder()).toMatchObject({ state: "gone" });
    const second = await seenBy(2).acquire("repair", ms(0), never);
    expect(second.token).toBe(2);
    await expect(first.check()).rejects.toMatchObject({ because: expect.stringMatching(/newer lease/) as unknown });
    expect(await audit.read(10)).toMatchObject([
      { action: "lease-takeover", detail: expect.stringMatching(/p1@here.*its process is gone/) as unknown },
    ]);
  });

  it("is lost by a process whose number another one has now", async () => {
    await seenBy(1).acquire("deploy", ms(0), never);
    processes.start(1, 999);
    expect(await seenBy(2).holder()).toMatchObject({ state: "gone" });
  });

  it("is lost by a reboot", async () => {
    await seenBy(1).acquire("deploy", ms(0), never);
    processes.bootId = "boot-2";
    expect((await seenBy(2).acquire("deploy", ms(0), never)).token).toBe(2);
    expect((await audit.read(1))[0]?.detail).toMatch(/booted since/);
  });

  it("expires 30 s after the last heartbeat of a process that hangs, whatever the date does", async () => {
    const first = await seenBy(1).acquire("deploy", ms(0), never);
    clock.setBack(86_400_000);
    clock.pass(29_000);
    await expect(seenBy(2).acquire("deploy", ms(0), never)).rejects.toThrow(PreflightRefused);
    clock.pass(2_000);
    expect(await seenBy(2).holder()).toMatchObject({ state: "expired" });
    await seenBy(2).acquire("deploy", ms(0), never);
    await expect(first.check()).rejects.toThrow(/lost/);
    await first.release();
    expect(await seenBy(3).holder()).toMatchObject({ owner: "p2@here", state: "live" });
  });

  it("is broken only by force while its process lives, and then its holder knows", async () => {
    const first = await seenBy(1).acquire("deploy", ms(0), never);
    await expect(seenBy(2).break(false)).rejects.toThrow(/running/);
    expect(await seenBy(2).break(true)).toMatchObject({ owner: "p1@here", state: "live" });
    await expect(first.check()).rejects.toThrow(/lost/);
    expect(await seenBy(2).holder()).toMatchObject({ state: "released", token: 2 });
    expect((await audit.read(1))[0]?.detail).toMatch(/broken by force/);
  });

  it("is broken without force when nobody holds it any more", async () => {
    await seenBy(1).acquire("deploy", ms(0), never);
    processes.end(1);
    expect(await seenBy(2).break(false)).toMatchObject({ state: "gone" });
  });

  it("treats a lease file it cannot read as nobody's, and does not use its token again", async () => {
    await (await seenBy(1).acquire("deploy", ms(0), never)).release();
    writeFileSync(join(state, "leases/00000002.json"), "{half");
    expect((await seenBy(2).acquire("deploy", ms(0), never)).token).toBe(3);
  });

  it("keeps only the newest few files, and never counts backwards", async () => {
    for (let token = 1; token <= 30; token++) {
      const lease = await seenBy(1).acquire("deploy", ms(0), never);
      expect(lease.token).toBe(token);
      await lease.release();
    }
    expect(readdirSync(join(state, "leases")).length).toBeLessThan(30);
  });
});
