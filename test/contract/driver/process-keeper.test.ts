import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { ms } from "../../../cli/src/domain/units.js";
import type { InstanceSpec, Lease } from "../../../cli/src/ports.js";
import { until } from "../../support/until.js";
import { instanceOf } from "./driver-world.js";
import { ProcessWorld } from "./process-world.js";

const never = new AbortController().signal;

describe("the process driver and its keeper", { timeout: 90_000 }, () => {
  let world: ProcessWorld;
  let lease: Lease;

  const arrive = async (options: { name?: string } = {}): Promise<void> => {
    world = await ProcessWorld.create(options);
    lease = await world.lease();
  };
  afterEach(async () => {
    await world.dispose();
  }, 60_000);

  const serving = async (secrets: Readonly<Record<string, string>> = {}): Promise<InstanceSpec> => {
    const instance = instanceOf(world.spec(), 1, "a");
    await world.driver.stage(instance.spec, "code", never);
    await world.driver.ensureManager(lease, never);
    await world.driver.start(instance, secrets, lease);
    await until(async () => (await world.driver.health(instance.id)).status === "healthy", "it is healthy", 40_000);
    await world.driver.open(instance.id, lease);
    return instance;
  };
  const pidOf = async (instance: InstanceSpec): Promise<number> => {
    const found = (await world.driver.observe()).instances.find((each) => each.id === instance.id)?.process;
    if (found?.state !== "running") throw new Error(`${instance.id} does not run`);
    return found.pid;
  };
  const answers = (instance: InstanceSpec): Promise<number> =>
    fetch(`${world.publicUrl(instance.spec)}/health`, { signal: AbortSignal.timeout(10_000) }).then(({ status }) => status);

  it("replaces a keeper that hangs, and the instance never notices", async () => {
    await arrive();
    const instance = await serving();
    const [pid, hanging] = [await pidOf(instance), await world.keeperPid()];
    process.kill(hanging, "SIGSTOP");
    const began = performance.now();
    expect((await world.driver.observe()).manager).toEqual({
      state: "absent",
      detail: `pid ${hanging.toString()} exists and does not answer`,
    });
    expect(performance.now() - began).toBeLessThan(4000);
    await world.driver.ensureManager(lease, never);
    expect(await world.keeperPid()).not.toBe(hanging);
    expect(await pidOf(instance)).toBe(pid);
    expect(await answers(instance)).toBe(200);
  });

  it("replaces a keeper of an older version, which hands its instances over", async () => {
    await arrive();
    const instance = await serving();
    const [pid, old] = [await pidOf(instance), await world.keeperPid()];
    await world.withVersion("0.2.0").ensureManager(lease, never);
    expect(await world.keeperPid()).not.toBe(old);
    expect(await pidOf(instance)).toBe(pid);
    expect(await answers(instance)).toBe(200);
  });

  it("leaves a keeper that answers and is new enough alone", async () => {
    await arrive();
    await serving();
    const keeper = await world.keeperPid();
    await world.driver.ensureManager(lease, never);
    await world.withVersion("0.0.9").ensureManager(lease, never);
    expect(await world.keeperPid()).toBe(keeper);
  });

  it("starts one keeper when two commands start it at once", async () => {
    await arrive();
    await Promise.all([world.driver.ensureManager(lease, never), world.driver.ensureManager(lease, never)]);
    expect((await world.driver.observe()).manager.state).toBe("running");
    await until(() => world.keepers().length === 1, "the keeper that lost is gone");
  });

  it("keeps its sockets elsewhere when the state directory's path is too long for them", async () => {
    await arrive({ name: "a-rather-long-name-of-a-directory-that-no-socket-path-can-hold-as-it-is" });
    const instance = await serving();
    expect(world.run).toMatch(/^\/tmp\/gpuctl-\d+\/[0-9a-f]{16}$/);
    expect(statSync(world.run).mode & 0o777).toBe(0o700);
    expect(await answers(instance)).toBe(200);
    await world.driver.destroy(lease);
    expect(await world.leftovers()).toEqual([]);
    expect(existsSync(world.run)).toBe(false);
  });

  it("hands secrets to an instance as files, and shows them nowhere", async () => {
    await arrive();
    const instance = await serving({ API_KEYS: "very-secret-key" });
    const pid = (await pidOf(instance)).toString();
    const directory = /GPUCTL_SECRETS_DIR=([^\0]*)/.exec(readFileSync(`/proc/${pid}/environ`, "utf8"))?.[1] ?? "";
    expect(readFileSync(join(directory, "API_KEYS"), "utf8")).toBe("very-secret-key");
    const shown = [
      `/proc/${pid}/cmdline`,
      `/proc/${pid}/environ`,
      join(world.state, "instances", `${instance.id}.json`),
      join(world.state, "logs", `${instance.id}.log`),
    ];
    for (const file of [...shown, join(world.state, "keeper/desired.json"), join(world.state, "logs/keeper.log")]) {
      expect(readFileSync(file, "utf8")).not.toContain("very-secret-key");
    }
    const items = `${world.publicUrl(instance.spec)}/api/v1/vector-store/stats`;
    expect((await fetch(items)).status).toBe(401);
    expect((await fetch(items, { headers: { authorization: "Bearer very-secret-key" } })).status).toBe(200);
  });

  it("names the stranger that took the port after the preflight", async () => {
    await arrive();
    const instance = instanceOf(world.spec(), 1, "a");
    await world.driver.stage(instance.spec, "code", never);
    await world.driver.ensureManager(lease, never);
    const stranger = createServer();
    await new Promise<void>((resolve) => stranger.listen(instance.spec.listen.port, "127.0.0.1", resolve));
    try {
      await expect(world.driver.start(instance, {}, lease)).rejects.toMatchObject({
        because: expect.stringContaining(process.pid.toString()) as unknown,
      });
    } finally {
      await new Promise((resolve) => stranger.close(resolve));
    }
  });

  it("finds a staged wheel that was damaged, and stages it again", async () => {
    await arrive();
    const spec = world.spec();
    await world.driver.stage(spec, "code", never);
    const wheel = join(world.state, "wheels", `${spec.code.wheel}.whl`);
    expect(await world.driver.intact(spec)).toBe(true);
    writeFileSync(wheel, "damaged");
    expect(await world.driver.intact(spec)).toBe(false);
    await world.driver.stage(spec, "code", never);
    expect(readFileSync(wheel).length).toBeGreaterThan(10_000);
    expect(readdirSync(join(world.state, "wheels"))).toEqual([`${spec.code.wheel}.whl`]);
    const gone = { ...spec, code: { ...spec.code, wheel: "0".repeat(64) } };
    await expect(world.driver.stage(gone, "code", never)).rejects.toThrow(/not on this machine/);
    expect(await world.driver.staged(gone)).toBe(false);
    const findings = await world.driver.preflight([gone, { ...spec, python: { lock: "f".repeat(64) } }], never);
    expect(
      findings
        .filter(({ level }) => level === "blocker")
        .map(({ code }) => code)
        .sort(),
    ).toEqual(["code-missing", "python-missing"]);
  });

  it("stops a paused instance by itself when its time is over, although the keeper died meanwhile", async () => {
    await arrive();
    const instance = await serving();
    await world.driver.close(instance.id, ms(2000), lease);
    await world.driver.stop(instance.id, ms(4000), lease);
    await world.killManager();
    await world.driver.ensureManager(lease, never);
    await until(
      async () => (await world.driver.observe()).instances.every(({ process: found }) => found.state === "stopped"),
      "it is stopped",
      30_000,
    );
  });
});
