import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { instanceOrders, type InstanceOrders } from "../../../../../cli/src/adapters/targets/compose/instance-orders.js";
import { readOrder } from "../../../../../cli/src/adapters/targets/compose/orders.js";
import { ownershipFilters } from "../../../../../cli/src/domain/compose/labels.js";
import { ms } from "../../../../../cli/src/domain/units.js";
import type { Lease } from "../../../../../cli/src/ports.js";
import { until } from "../../../../support/until.js";
import { ScriptedHost, type Reply } from "./scripted-host.js";

const old = "embedder-r1-00000001-a";
const next = "embedder-r2-00000002-b";
/** Behind both, and always open. */
const standby = "embedder-r1-00000001-cpu";
const looked = (running: boolean): readonly Reply[] => [
  { to: `*dev.gpuctl.instance=${old}`, stdout: "c-old\n" },
  { to: `*dev.gpuctl.instance=${next}`, stdout: "c-next\n" },
  { to: "*dev.gpuctl.service=embedder*", stdout: "c-cpu cpu\nc-next b\nc-old a\n" },
  { to: "*State.Running*", stdout: `${running}\n` },
  { to: "inspect*c-next", stdout: `${next}\n` },
  { to: "inspect*c-cpu", stdout: `${standby}\n` },
];

describe("orders on a host", () => {
  let host: ScriptedHost;
  let orders: InstanceOrders;
  let lease: Lease;
  const isBack = (): Promise<void> =>
    until(() => host.text(`orders/${old}`) === null && host.text(`orders/${old}.claimed`) === null, "it is back");
  /** Writes a file of the lease that the host counts as its newest. */
  const ofLease = (ending: "lease" | "beat" | "released", text: string): void => {
    const leases = join(host.root, "leases");
    mkdirSync(leases, { recursive: true });
    writeFileSync(join(leases, `${`${lease.token + 4}`.padStart(8, "0")}.${ending}`), text);
  };

  beforeEach(() => {
    host = new ScriptedHost();
    orders = instanceOrders(host.commands, ownershipFilters("shop", "prod"));
    lease = host.takeLease();
    ofLease("lease", "owner\n");
    host.replies(looked(false));
  });
  afterEach(() => host.dispose());

  it("stop an instance for good: closed, not restarted, its container kept", async () => {
    await orders.stop(old, lease);
    expect(host.asked()).toEqual([
      `docker ps --all --quiet --no-trunc --filter label=dev.gpuctl.project=shop --filter label=dev.gpuctl.environment=prod --filter label=dev.gpuctl.instance=${old}`,
      "docker update --restart no c-old",
      "docker stop c-old",
    ]);
    expect(host.text(`gates/${old}`)).toBe("closed\n");
    expect(readOrder(host.text(`orders/${old}`) ?? "")).toEqual({ kind: "stopped" });
  });

  it("are on the disk before they have their name, and their name is before anything follows: a power cut leaves no empty gate", async () => {
    host.program("sync", `printf 'sync %s: %s\\n' "\${1#${host.root}/}" "$(cat "$1" 2>/dev/null)" >>'${host.directory}/asked'`);
    await orders.stop(old, lease);
    expect(host.asked().slice(0, 4)).toEqual([
      expect.stringMatching(new RegExp(`^sync orders/${old}\\.\\d+\\.new: stopped$`)),
      "sync orders: ",
      expect.stringMatching(new RegExp(`^sync gates/${old}\\.\\d+\\.new: closed$`)),
      "sync gates: ",
    ]);
    expect(host.asked().at(-1)).toBe("docker stop c-old");
  });

  it("are refused by the host under a lease that is not the newest", async () => {
    host.takeLease();
    await expect(orders.stop(old, lease)).rejects.toThrow("the lease on gpu-1 was lost");
    expect(host.asked()).toEqual([]);
    expect(host.text(`orders/${old}`)).toBeNull();
  });

  it("end an instance later, without whoever ordered it", async () => {
    await orders.stopLater(old, ms(1000), lease);
    expect(readOrder(host.text(`orders/${old}`) ?? "")).toMatchObject({ kind: "stop" });
    expect(host.changes()).toEqual([]);
    await until(() => host.text(`orders/${old}`) === "stopped\n", "it is stopped");
    expect(host.changes()).toEqual(["docker update --restart no c-old", "docker stop c-old"]);
  });

  it("are not carried out once they were taken back", async () => {
    await orders.stopLater(old, ms(1000), lease);
    await orders.forget(old, lease);
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(host.changes()).toEqual([]);
  });

  it("make room: the container may come back by itself, its gate waits open", async () => {
    await orders.suspend(old, "embedder", ms(600_000), lease);
    expect(host.changes()).toEqual(["docker update --restart always c-old"]);
    const order = readOrder(host.text(`orders/${old}`) ?? "");
    expect(order).toMatchObject({ kind: "suspended" });
    // The order and the gate end together: without the timer, too, it is back by then.
    expect(host.text(`gates/${old}`)).toBe(`paused until ${order?.kind === "suspended" ? order.at : "?"}\n`);
    await orders.makeRoom(old, lease);
    expect(host.changes().slice(1)).toEqual(["docker stop c-old"]);
    expect(host.text(`gates/${old}`)).toBe("open\n");
    expect(readOrder(host.text(`orders/${old}`) ?? "")).toMatchObject({ kind: "suspended" });
    await orders.settle(old, lease);
    expect(host.text(`gates/${old}`)).toBe("closed\n");
    expect(readOrder(host.text(`orders/${old}`) ?? "")).toEqual({ kind: "stopped" });
    expect(host.changes().at(-1)).toBe("docker update --restart no c-old");
  });

  it("bring an ended instance back in the place of a successor that was never opened; what answered meanwhile is none", async () => {
    writeFileSync(join(host.root, `gates/${next}`), "closed\n");
    writeFileSync(join(host.root, `gates/${standby}`), "open\n");
    await orders.suspend(old, "embedder", ms(600_000), lease);
    await orders.makeRoom(old, lease);
    ofLease("released", "");
    await isBack();
    expect(host.changes()).toContain("docker start c-old");
    expect(host.changes().slice(2)).toEqual([
      "docker update --restart no c-next",
      "docker stop c-next",
      "docker update --restart always c-old",
      "docker start c-old",
    ]);
    expect(host.text(`gates/${old}`)).toBe("open\n");
  });

  it("leave a suspended instance ended when its successor is open", async () => {
    writeFileSync(join(host.root, `gates/${next}`), "open\n");
    await orders.suspend(old, "embedder", ms(600_000), lease);
    await orders.makeRoom(old, lease);
    ofLease("released", "");
    await until(() => host.text(`orders/${old}`) === "stopped\n", "it is settled");
    expect(host.changes().slice(2)).toEqual(["docker update --restart no c-old"]);
    expect(host.text(`gates/${old}`)).toBe("closed\n");
  });

  it("bring back at once one that nobody has ended, and whoever comes late cannot end it any more", async () => {
    host.replies(looked(true));
    await orders.suspend(old, "embedder", ms(600_000), lease);
    ofLease("released", "");
    await isBack();
    expect(host.changes()).toContain("docker start c-old");
    await expect(orders.makeRoom(old, lease)).rejects.toThrow(`${old} could not make room`);
    expect(host.changes()).not.toContain("docker stop c-old");
    expect(host.text(`gates/${old}`)).toBe("open\n");
  });

  it("never leave one paused that comes back while it is still being suspended", async () => {
    ofLease("released", "");
    await orders.suspend(old, "embedder", ms(600_000), lease).catch(() => undefined);
    await isBack();
    expect(host.text(`gates/${old}`)).toBe("open\n");
  });

  it("wait for one that is ending before they bring it back", async () => {
    host.replies(looked(true));
    await orders.suspend(old, "embedder", ms(600_000), lease);
    writeFileSync(join(host.root, `gates/${old}`), "closed until 99999999\n");
    ofLease("released", "");
    const looks = (): number => host.asked().filter((line) => line.includes("State.Running")).length;
    await until(() => looks() > 1, "it is looked at again");
    expect(host.changes()).not.toContain("docker start c-old");
    host.replies(looked(false));
    await isBack();
    expect(host.changes()).toContain("docker start c-old");
    expect(host.text(`gates/${old}`)).toBe("open\n");
  });

  it("shut its gate for no longer than promised while it ends, as a host may go down in the middle of that", async () => {
    const gate = join(host.root, `gates/${old}`);
    host.replies(looked(true));
    await orders.suspend(old, "embedder", ms(600_000), lease);
    const until = host.text(`gates/${old}`)?.replace("paused", "closed");
    host.program("docker", `case "$*" in stop*) cat '${gate}' >'${gate}.seen' ;; ps*) echo c-old ;; esac`);
    await orders.makeRoom(old, lease);
    expect(host.text(`gates/${old}.seen`)).toBe(until);
    expect(until).toMatch(/^closed until \d+\n$/);
  });

  it("do not end one whose time is over, also when no timer has brought it back", async () => {
    await orders.suspend(old, "embedder", ms(600_000), lease);
    const order = join(host.root, `orders/${old}`);
    // The timer ends when it finds another order than its own.
    writeFileSync(order, "suspended 1 another-boot 1-1\n");
    await expect(orders.makeRoom(old, lease)).rejects.toThrow(`${old} could not make room`);
    expect(host.text(`gates/${old}`)).toBe("open\n");
    expect(host.changes()).not.toContain("docker stop c-old");
  });

  it("bring it back when its time is over", async () => {
    await orders.suspend(old, "embedder", ms(3000), lease);
    expect(host.text(`gates/${old}`)).toMatch(/^paused until \d+\n$/);
    await isBack();
    expect(host.text(`gates/${old}`)).toBe("open\n");
  });

  it("bring it back early when whoever ordered does not beat any more, by the lease's number on this host", async () => {
    // Another host counts differently, and the lease of both has the number of that one.
    for (const name of [`${lease.token}`.padStart(8, "0"), "foreign"])
      writeFileSync(join(host.root, `leases/${name}.lease`), "owner\n");
    await orders.suspend(old, "embedder", ms(600_000), lease);
    ofLease("beat", "         1          0\n");
    await isBack();
    expect(host.changes()).toContain("docker start c-old");
  });

  it("say what they are in one line, and nothing else is one", () => {
    expect(readOrder("stop 812 2f9e 33-801")).toEqual({ kind: "stop", at: 812, bootId: "2f9e" });
    expect(readOrder("suspended 9 b")).toEqual({ kind: "suspended", at: 9, bootId: "b" });
    for (const text of ["", "stop", "stop soon b", "stop 1", "run 1 b"]) expect(readOrder(text)).toBeNull();
  });
});
