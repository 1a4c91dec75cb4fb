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

  beforeEach(() => {
    host = new ScriptedHost();
    orders = instanceOrders(host.commands, ownershipFilters("shop", "prod"));
    lease = host.takeLease();
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
    expect(host.changes()).toEqual(["docker update --restart always c-old", "docker stop c-old"]);
    expect(host.text(`gates/${old}`)).toBe("open\n");
    expect(readOrder(host.text(`orders/${old}`) ?? "")).toMatchObject({ kind: "suspended" });
    await orders.settle(old, lease);
    expect(host.text(`gates/${old}`)).toBe("closed\n");
    expect(readOrder(host.text(`orders/${old}`) ?? "")).toEqual({ kind: "stopped" });
    expect(host.changes().at(-1)).toBe("docker update --restart no c-old");
  });

  it("bring a suspended instance back in the place of a successor that was never opened; what answered meanwhile is none", async () => {
    writeFileSync(join(host.root, `gates/${next}`), "closed\n");
    writeFileSync(join(host.root, `gates/${standby}`), "open\n");
    await orders.suspend(old, "embedder", ms(1000), lease);
    await until(() => host.changes().includes("docker start c-old"), "it is back");
    expect(host.changes().slice(2)).toEqual([
      "docker update --restart no c-next",
      "docker stop c-next",
      "docker update --restart always c-old",
      "docker start c-old",
    ]);
    expect(host.text(`gates/${old}`)).toBe("open\n");
    await until(() => host.text(`orders/${old}.claimed`) === null, "the order is gone");
  });

  it("leave a suspended instance ended when its successor is open", async () => {
    writeFileSync(join(host.root, `gates/${next}`), "open\n");
    await orders.suspend(old, "embedder", ms(1000), lease);
    await until(() => host.text(`orders/${old}`) === "stopped\n", "it is settled");
    expect(host.changes().slice(2)).toEqual(["docker update --restart no c-old"]);
    expect(host.text(`gates/${old}`)).toBe("closed\n");
  });

  it("bring it back early when whoever ordered does not beat any more, by the lease's number on this host", async () => {
    const leases = join(host.root, "leases");
    mkdirSync(leases);
    // Another host counts differently, and the lease of both has the number of that one.
    const own = `${lease.token + 4}`.padStart(8, "0");
    for (const name of [`${lease.token}`.padStart(8, "0"), own, "foreign"])
      writeFileSync(join(leases, `${name}.lease`), "owner\n");
    writeFileSync(join(leases, `${own}.beat`), "         1          0\n");
    await orders.suspend(old, "embedder", ms(600_000), lease);
    await until(() => host.changes().includes("docker start c-old"), "it is back");
  });

  it("say what they are in one line, and nothing else is one", () => {
    expect(readOrder("stop 812 2f9e 33-801")).toEqual({ kind: "stop", at: 812, bootId: "2f9e" });
    expect(readOrder("suspended 9 b")).toEqual({ kind: "suspended", at: 9, bootId: "b" });
    for (const text of ["", "stop", "stop soon b", "stop 1", "run 1 b"]) expect(readOrder(text)).toBeNull();
  });
});
