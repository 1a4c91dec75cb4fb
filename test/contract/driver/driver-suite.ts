import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { GpuctlError } from "../../../cli/src/domain/errors.js";
import { Failed } from "../../../cli/src/domain/errors.js";
import { ms } from "../../../cli/src/domain/units.js";
import type { InstanceObservation, InstanceSpec, Lease } from "../../../cli/src/ports.js";
import { until } from "../../support/until.js";
import { type DriverWorld, instanceOf } from "./driver-world.js";

const never = new AbortController().signal;

/** What every target's driver promises to the use cases above it. */
export function describeDriver(target: string, makeWorld: () => Promise<DriverWorld>): void {
  describe(`the ${target} driver`, { timeout: 90_000 }, () => {
    let world: DriverWorld;
    let lease: Lease;

    beforeEach(async () => {
      world = await makeWorld();
      lease = await world.lease();
    }, 60_000);
    afterEach(async () => {
      await world.dispose();
    }, 60_000);

    const observed = async (id: string): Promise<InstanceObservation | undefined> =>
      (await world.driver.observe()).instances.find((each) => each.id === id);

    const ready = async (instance: InstanceSpec): Promise<void> => {
      await until(async () => (await world.driver.health(instance.id)).status === "healthy", `${instance.id} is healthy`, 40_000);
    };

    const loading = async (instance: InstanceSpec): Promise<InstanceSpec> => {
      await world.driver.stage(instance.spec, "code", never);
      await world.driver.ensureManager(lease, never);
      await world.driver.start(instance, {}, lease);
      return instance;
    };

    const started = async (
      number = 1,
      slot: "a" | "b" = "a",
      settings: Readonly<Record<string, string>> = {},
    ): Promise<InstanceSpec> => {
      const instance = await loading(instanceOf(world.spec(settings), number, slot));
      await ready(instance);
      return instance;
    };

    const publicStatus = async (instance: InstanceSpec): Promise<number> =>
      (
        await fetch(`${world.publicUrl(instance.spec)}/health`, {
          signal: AbortSignal.timeout(5000),
          headers: { connection: "close" },
        })
      ).status;

    const answersPublicly = async (instance: InstanceSpec): Promise<boolean> =>
      fetch(`${world.publicUrl(instance.spec)}/health`, {
        signal: AbortSignal.timeout(400),
        headers: { connection: "close" },
      }).then(
        (answer) => answer.ok,
        () => false,
      );

    it("observes an environment in which nothing ever ran", async () => {
      const seen = await world.driver.observe();
      expect(seen.manager.state).toBe("absent");
      expect(seen.instances).toEqual([]);
    });

    it("finds nothing in the way of a first deploy, and says what it looked at", async () => {
      const findings = await world.driver.preflight([world.spec()], never);
      expect(findings.filter((finding) => finding.level === "blocker")).toEqual([]);
      expect(findings.map((finding) => finding.code)).toEqual(
        expect.arrayContaining(["state-writable", "port-free", "code-present"]),
      );
      expect(await world.driver.staged(world.spec())).toBe(true);
    });

    it("starts an instance that answers privately and not publicly until it is opened", async () => {
      const instance = await started();
      expect(await observed(instance.id)).toMatchObject({
        traffic: "closed",
        restarts: 0,
        process: { state: "running" },
        release: instance.release,
        slot: "a",
      });
      expect((await world.driver.request(instance.id, { method: "GET", path: "/health", timeout: ms(5000) })).status).toBe(200);
      expect(await answersPublicly(instance)).toBe(false);
      await world.driver.open(instance.id, lease);
      expect(await publicStatus(instance)).toBe(200);
      expect((await observed(instance.id))?.traffic).toBe("open");
    });

    it("closes an instance reversibly", async () => {
      const instance = await started();
      await world.driver.open(instance.id, lease);
      expect(await world.driver.close(instance.id, ms(5000), lease)).toMatchObject({ drained: true });
      expect((await observed(instance.id))?.traffic).toBe("paused");
      expect((await world.driver.health(instance.id)).status).toBe("healthy");
      expect(await answersPublicly(instance)).toBe(false);
      await world.driver.open(instance.id, lease);
      expect(await publicStatus(instance)).toBe(200);
    });

    it("switches from one instance to the next without a refused request", async () => {
      const old = await started(1, "a");
      await world.driver.open(old.id, lease);
      const next = await started(2, "b");
      let answered = 0;
      const stopping = new AbortController();
      const load = (async () => {
        while (!stopping.signal.aborted) {
          expect(await publicStatus(old)).toBe(200);
          answered += 1;
        }
      })();
      await until(() => answered > 5, "load runs");
      await world.driver.open(next.id, lease);
      await world.driver.close(old.id, ms(5000), lease);
      const before = answered;
      await until(() => answered > before + 5, "load goes on");
      stopping.abort();
      await load;
      expect((await observed(next.id))?.traffic).toBe("open");
      expect((await observed(old.id))?.traffic).toBe("paused");
    });

    it("stops an instance, at once or later", async () => {
      const instance = await started();
      await world.driver.stop(instance.id, ms(60_000), lease);
      const planned = await observed(instance.id);
      expect(planned?.process.state).toBe("running");
      expect(planned?.stopsInMs).toBeGreaterThan(30_000);
      await world.driver.stop(instance.id, null, lease);
      expect((await observed(instance.id))?.process.state).toBe("stopped");
      await expect(world.driver.health(instance.id)).rejects.toThrow(Failed);
    });

    it("stops an instance that has only just begun to load, before its time to end is over", async () => {
      const instance = await loading(instanceOf(world.spec(), 1, "a"));
      const began = performance.now();
      await world.driver.stop(instance.id, null, lease);
      expect(performance.now() - began).toBeLessThan(20_000);
      expect((await observed(instance.id))?.process.state).toBe("stopped");
    });

    it("suspends an instance, and does not bring it back once its successor was opened", async () => {
      const old = await started(1, "a");
      await world.driver.open(old.id, lease);
      await world.driver.suspend(old.id, { drain: ms(1000), restoreAfter: ms(600_000) }, lease);
      expect((await observed(old.id))?.process.state).toBe("stopped");
      const next = await started(2, "b");
      await world.driver.open(next.id, lease);
      expect(await publicStatus(next)).toBe(200);
      expect((await observed(old.id))?.process.state).toBe("stopped");
    });

    it("brings a suspended instance back, in the place of a successor that was never opened", async () => {
      const old = await started(1, "a");
      await world.driver.open(old.id, lease);
      await world.driver.suspend(old.id, { drain: ms(1000), restoreAfter: ms(10) }, lease);
      await until(async () => (await observed(old.id))?.traffic === "open", "it is back", 40_000);
      expect(await publicStatus(old)).toBe(200);
    });

    it("says within one look that a candidate exited while loading, and why", async () => {
      const instance = await loading(instanceOf(world.brokenSpec(), 1, "a"));
      let failure: unknown;
      await until(async () => {
        failure = await world.driver.health(instance.id).then(
          () => null,
          (error: unknown) => error,
        );
        return failure !== null;
      }, "the candidate is found dead");
      expect(failure).toBeInstanceOf(Failed);
      expect((failure as GpuctlError).because).toMatch(/exited with status/);
      expect((await world.driver.logTail(instance.id, 50)).length).toBeGreaterThan(0);
      expect((await observed(instance.id))?.process).toMatchObject({ state: "exited" });
    });

    it("restarts an opened instance that dies, and its clients wait instead of being refused", async () => {
      const instance = await started();
      await world.driver.open(instance.id, lease);
      const before = await observed(instance.id);
      if (before?.process.state !== "running") throw new Error("it does not run");
      await world.killInstance(before.process.pid);
      expect(
        await fetch(`${world.publicUrl(instance.spec)}/health`, { signal: AbortSignal.timeout(30_000) }).then(
          (answer) => answer.status,
        ),
      ).toBe(200);
      await until(async () => (await observed(instance.id))?.restarts === 1, "the restart is counted");
    });

    it("observes what runs while the manager is dead, and adopts it afterwards", async () => {
      const instance = await started();
      await world.driver.open(instance.id, lease);
      const before = await observed(instance.id);
      await world.killManager();
      const began = performance.now();
      const seen = await world.driver.observe();
      expect(performance.now() - began).toBeLessThan(500);
      expect(seen.manager.state).toBe("absent");
      expect(seen.instances).toMatchObject([{ id: instance.id, traffic: "open", process: before?.process }]);
      expect(seen.listeners).toMatchObject([{ service: instance.service, bound: !world.managerListens }]);
      expect(await answersPublicly(instance)).toBe(!world.managerListens);
      await world.driver.ensureManager(lease, never);
      expect(await publicStatus(instance)).toBe(200);
      expect((await world.driver.observe()).manager.state).toBe("running");
      expect(await observed(instance.id)).toMatchObject({ traffic: "open", process: before?.process });
      expect(await world.driver.close(instance.id, ms(5000), lease)).toMatchObject({ drained: true });
    });

    it("mends a dead manager in the middle of a change", async () => {
      const instance = await started();
      await world.killManager();
      await world.driver.open(instance.id, lease);
      expect(await publicStatus(instance)).toBe(200);
    });

    it("refuses a lease that is not the newest", async () => {
      const instance = await started();
      const newer = await world.lease();
      await world.driver.open(instance.id, newer);
      await expect(world.driver.close(instance.id, ms(1000), lease)).rejects.toThrow(/lease/);
      expect((await observed(instance.id))?.traffic).toBe("open");
    });

    it("finds its own ports not in its way", async () => {
      const instance = await started();
      await world.driver.open(instance.id, lease);
      const findings = await world.driver.preflight([instance.spec], never);
      expect(findings.find((finding) => finding.code.startsWith("port-"))).toMatchObject({ level: "ok", code: "port-ours" });
    });

    it("follows logs from one instance to the next", async () => {
      const old = await started(1, "a");
      const stop = new AbortController();
      const seen = new Set<string>();
      const following = (async () => {
        for await (const line of world.driver.logs([old.service], { lines: 5, follow: true }, stop.signal))
          seen.add(line.instance);
      })();
      await until(() => seen.has(old.id), "the first instance's lines are shown");
      const next = await started(2, "b");
      await until(() => seen.has(next.id), "the second instance's lines follow");
      stop.abort();
      await following;
    });

    it("prunes ended instances that no kept release names, and nothing that runs", async () => {
      const old = await started(1, "a", { GPUCTL_LOG_LEVEL: "debug" });
      const next = await started(2, "b");
      await world.driver.stop(old.id, null, lease);
      const removed = await world.driver.prune([next.spec], lease);
      expect(removed.map((each) => each.what).join()).toContain(old.id);
      expect((await world.driver.observe()).instances.map((each) => each.id)).toEqual([next.id]);
      expect((await world.driver.health(next.id)).status).toBe("healthy");
      expect(await world.driver.prune([next.spec], lease)).toEqual([]);
    });

    it("destroys everything it started, also when the manager is dead", async () => {
      const first = await started(1, "a");
      await world.driver.open(first.id, lease);
      await started(2, "b");
      await world.killManager();
      await world.driver.destroy(lease);
      expect(await world.leftovers()).toEqual([]);
      expect((await world.driver.observe()).instances).toEqual([]);
      expect(await answersPublicly(first)).toBe(false);
    });
  });
}
