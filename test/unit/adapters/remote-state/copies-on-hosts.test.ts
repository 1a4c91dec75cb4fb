import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { RemoteLeaseStore } from "../../../../cli/src/adapters/remote-state/remote-lease-store.js";
import { ReplicatedReleaseStore } from "../../../../cli/src/adapters/remote-state/replicated-release-store.js";
import { ms } from "../../../../cli/src/domain/units.js";
import { recordOf } from "../../../support/records.js";
import { temporaryDirectories } from "../../../support/temporary.js";
import { never, World } from "./world.js";

const temporary = temporaryDirectories();
const secrets = { embedder: { API_KEYS: "k" } };
const [first, good, second] = [recordOf(1), recordOf(1, { state: "good" }), recordOf(2)];
const threeHosts = (): World => new World(temporary(), ["gpu-1", "gpu-2", "gpu-3"]);
type Person = Awaited<ReturnType<World["working"]>>;

/** The store over some of a person's hosts, as `--hosts` makes it. */
const onlyOn = (person: Person, ...names: string[]): ReplicatedReleaseStore =>
  new ReplicatedReleaseStore(person.files.filter(({ host }) => names.includes(host)));

describe("copies of the records on every host", () => {
  it("are equal after every write, and any one host is enough to go on from", async () => {
    const hosts = threeHosts();
    const ada = await hosts.working("ada");
    await ada.releases.create(first, secrets);
    await ada.releases.update(good);
    const texts = hosts.hosts.map(({ root }) => readFileSync(join(root, "releases", `${first.id}.json`), "utf8"));
    expect(new Set(texts).size).toBe(1);
    expect((await ada.releases.list()).copies.map(({ state }) => state)).toEqual(["whole", "whole", "whole"]);
    const bob = hosts.person("bob");
    bob.line.down.add("gpu-1").add("gpu-2");
    expect((await bob.releases.list()).records).toEqual([good]);
    bob.line.down.add("gpu-3");
    await expect(bob.releases.list()).rejects.toMatchObject({ exit: "targetUnreachable" });
  });

  it("tell a host that cannot be reached from one that was installed again and from one that missed something", async () => {
    const hosts = threeHosts();
    const ada = await hosts.working("ada");
    await ada.releases.create(first, secrets);
    await onlyOn(ada, "gpu-1", "gpu-2").create(second, {});
    await onlyOn(ada, "gpu-1", "gpu-2").update(good);
    rmSync(hosts.hosts[1]?.root ?? "", { recursive: true });
    ada.line.down.add("gpu-1");
    const partly = await ada.releases.list();
    expect(partly.copies).toEqual([
      { host: "gpu-1", state: "unreachable", because: "it is off" },
      { host: "gpu-2", state: "blank" },
      { host: "gpu-3", state: "whole" },
    ]);
    ada.line.down.clear();
    const { records, copies } = await ada.releases.list();
    expect(records).toEqual([good, second]);
    expect(copies).toEqual([
      { host: "gpu-1", state: "whole" },
      { host: "gpu-2", state: "blank" },
      { host: "gpu-3", state: "behind", lacks: [second.id], differs: [first.id] },
    ]);
  });

  it("are nothing to miss before the first deploy", async () => {
    expect((await threeHosts().person("ada").releases.list()).copies.map(({ state }) => state)).toEqual([
      "whole",
      "whole",
      "whole",
    ]);
  });

  it("are completed with their secrets, also over a damaged one, and a second time changes nothing", async () => {
    const hosts = threeHosts();
    const ada = await hosts.working("ada");
    await ada.releases.create(first, secrets);
    await onlyOn(ada, "gpu-1", "gpu-2").update(good);
    writeFileSync(join(hosts.hosts[1]?.root ?? "", "releases", `${first.id}.json`), "torn");
    rmSync(join(hosts.hosts[2]?.root ?? "", "releases"), { recursive: true });
    expect(await ada.releases.complete()).toEqual([`gpu-2 got release ${first.id}`, `gpu-3 got release ${first.id}`]);
    expect(await ada.releases.complete()).toEqual([]);
    for (const files of ada.files) {
      expect((await files.list()).copies.map(({ record }) => record)).toEqual([good]);
      expect(await files.secrets(first.id)).toEqual(secrets);
    }
    await onlyOn(ada, "gpu-3").update(recordOf(1, { state: "failed" }));
    expect(await ada.releases.complete()).toHaveLength(2);
    expect((await ada.releases.list()).records[0]?.state).toBe("failed");
  });

  it("are not completed while a host cannot be reached, or without the lease", async () => {
    const hosts = threeHosts();
    const ada = await hosts.working("ada");
    await ada.releases.create(first, secrets);
    rmSync(join(hosts.hosts[2]?.root ?? "", "releases"), { recursive: true });
    await expect(hosts.person("bob").releases.complete()).rejects.toThrow(/without the lease/);
    ada.line.down.add("gpu-1");
    await expect(ada.releases.complete()).rejects.toMatchObject({ exit: "targetUnreachable" });
  });

  it("are written everywhere when an update that reached some hosts is made again, as the same revision", async () => {
    const hosts = threeHosts();
    const ada = await hosts.working("ada");
    await ada.releases.create(first, secrets);
    ada.line.down.add("gpu-2");
    await expect(ada.releases.update(good)).rejects.toMatchObject({ exit: "targetUnreachable" });
    ada.line.down.clear();
    expect((await hosts.person("bob").releases.list()).records).toEqual([good]);
    await ada.releases.update(good);
    const { records, copies } = await hosts.person("bob").releases.list();
    expect(records).toEqual([good]);
    expect(copies.map(({ state }) => state)).toEqual(["whole", "whole", "whole"]);
    for (const files of ada.files) expect((await files.list()).copies[0]?.revision).toBe(2);
  });

  it("of one revision that differ are decided alike by everybody: the one that got further counts", async () => {
    const hosts = threeHosts();
    const ada = await hosts.working("ada");
    await ada.releases.create(first, {});
    const bob = hosts.person("bob");
    for (const [position, state] of bob.states.entries()) state.fence = ada.states[position]?.fence ?? null;
    const bobs = new ReplicatedReleaseStore(bob.files.filter(({ host }) => host === "gpu-3"));
    await bobs.update(good);
    await onlyOn(ada, "gpu-1", "gpu-2").update(recordOf(1, { state: "switched" }));
    for (const reader of [ada, hosts.person("eve")]) {
      const { records, copies } = await reader.releases.list();
      expect(records).toEqual([good]);
      expect(copies.map(({ state }) => state)).toEqual(["behind", "behind", "whole"]);
    }
  });

  it("keep one key of the environment, which a host that was installed again gets from the others", async () => {
    const hosts = threeHosts();
    const ada = await hosts.working("ada");
    const hmac = await ada.releases.hmac("s");
    const keys = hosts.hosts.map(({ root }) => join(root, "hmac.key"));
    rmSync(keys[0] ?? "");
    expect(await hosts.person("bob").releases.hmac("s")).toBe(hmac);
    expect(new Set(keys.map((file) => readFileSync(file, "utf8"))).size).toBe(1);
  });

  it("have secrets that are not called none while a host that may have them cannot be asked", async () => {
    const hosts = threeHosts();
    const ada = await hosts.working("ada");
    await ada.releases.create(first, secrets);
    for (const position of [1, 2]) rmSync(hosts.hosts[position]?.root ?? "", { recursive: true });
    expect(await ada.releases.secrets(first.id)).toEqual(secrets);
    ada.line.down.add("gpu-1");
    await expect(ada.releases.secrets(first.id)).rejects.toMatchObject({ exit: "targetUnreachable" });
  });
});

describe("the lease on several hosts", () => {
  it("is taken on all of them or on none, and the refusal names the host and the holder", async () => {
    const hosts = threeHosts();
    const [ada, bob] = [hosts.person("ada"), hosts.person("bob")];
    // Bob works on the second host alone, as with --hosts.
    const [, host] = bob.states;
    if (host === undefined) throw new Error("three hosts were made");
    const here = { id: "bob-laptop", processes: bob.processes };
    const alone = new RemoteLeaseStore({
      host,
      name: "demo/prod",
      owner: "bob@bob-laptop",
      clock: bob.clock,
      audit: bob.audit,
      here,
      pid: 7,
    });
    const held = await alone.acquire("deploy", ms(0), never);
    await expect(ada.leases.acquire("rollback", ms(0), never)).rejects.toMatchObject({
      because: expect.stringMatching(/lease on gpu-2 is held by bob@bob-laptop running `gpuctl deploy`/) as unknown,
      data: { node: "gpu-2" },
    });
    expect(ada.states.map(({ fence }) => fence)).toEqual([null, null, null]);
    expect(await ada.leases.holder()).toMatchObject({ owner: "bob@bob-laptop", state: "live" });
    await expect(ada.leases.break(false)).rejects.toMatchObject({ data: { node: "gpu-2" } });
    await held.release();
    const lease = await ada.leases.acquire("rollback", ms(0), never);
    await lease.check();
    ada.line.down.add("gpu-3");
    await expect(lease.check()).rejects.toMatchObject({ exit: "targetUnreachable" });
  });

  it("is not taken while one of them cannot be reached, and nothing stays taken", async () => {
    const hosts = threeHosts();
    const ada = hosts.person("ada");
    ada.line.down.add("gpu-3");
    await expect(ada.leases.acquire("deploy", ms(0), never)).rejects.toMatchObject({ exit: "targetUnreachable" });
    expect(await ada.leases.holder()).toMatchObject({ state: "released" });
    await hosts.working("bob");
  });

  it("goes to exactly one of many who want it at once, again and again, without waiting for each other for ever", async () => {
    const hosts = threeHosts();
    let working = 0;
    const work = async (name: string): Promise<void> => {
      const lease = await hosts.person(name).leases.acquire("deploy", ms(3_600_000), never);
      working += 1;
      expect(working).toBe(1);
      await lease.check();
      working -= 1;
      await lease.release();
    };
    await Promise.all(["ada", "bob", "eve", "ada", "bob"].map((name, position) => work(`${name}${position}`)));
  });

  it("is lost when one host is installed again, and the check names that host", async () => {
    const hosts = threeHosts();
    const ada = await hosts.working("ada");
    rmSync(hosts.hosts[1]?.root ?? "", { recursive: true });
    await expect(ada.lease.check()).rejects.toMatchObject({
      message: expect.stringMatching(/on gpu-2 was lost/) as unknown,
      because: expect.stringMatching(/installed again/) as unknown,
    });
  });
});
