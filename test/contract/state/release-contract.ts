import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { expect, it } from "vitest";
import type { ReleaseStore } from "../../../cli/src/ports.js";
import { ms } from "../../../cli/src/domain/units.js";
import { recordOf } from "../../support/records.js";
import { never, type StateWorld } from "./state-world.js";

/** A store that may be written: its command holds the lease. */
async function writable(world: StateWorld): Promise<ReleaseStore> {
  const party = world.party(1);
  await party.leases.acquire("deploy", ms(0), never);
  return party.releases;
}

const recordPath = (number: number): string => `releases/${recordOf(number).id}.json`;
const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

/** What every store of release records promises. */
export function describeReleases(makeWorld: () => StateWorld): void {
  it("keep no records where nothing was ever deployed", async () => {
    expect(await makeWorld().party(1).releases.list()).toMatchObject({ records: [], damaged: [] });
  });

  it("give records back by number, and the newest state of each to everybody", async () => {
    const world = makeWorld();
    const store = await writable(world);
    for (const number of [10, 2, 1]) await store.create(recordOf(number, { createdAt: `20${40 - number}-01-01T00:00:00Z` }), {});
    await store.update(recordOf(2, { state: "switched" }));
    await store.update(recordOf(2, { state: "good", failure: "ü 'quoted' \\n\n$(id) ☃" }));
    const { records } = await world.party(2).releases.list();
    expect(records.map(({ number }) => number)).toEqual([1, 2, 10]);
    expect(records[1]).toEqual(recordOf(2, { state: "good", failure: "ü 'quoted' \\n\n$(id) ☃" }));
  });

  it("keep secrets beside the record, readable by nobody else, and never in it", async () => {
    const world = makeWorld();
    const store = await writable(world);
    const secrets = { embedder: { API_KEYS: "k-1\nk-2 'ü' \\ $(id)" } };
    await store.create(recordOf(1), secrets);
    await store.create(recordOf(2), { embedder: {} });
    const other = world.party(2).releases;
    expect(await other.secrets(recordOf(1).id)).toEqual(secrets);
    expect(await other.secrets(recordOf(2).id)).toEqual({});
    for (const file of world.files(recordPath(1))) {
      const directory = dirname(file);
      expect(modeOf(directory)).toBe("700");
      for (const name of readdirSync(directory)) expect(modeOf(`${directory}/${name}`)).toBe("600");
      expect(readFileSync(file, "utf8")).not.toContain("k-1");
      expect(readdirSync(directory)).toHaveLength(3);
    }
  });

  it("never overwrite a record, and keep the first one's secrets", async () => {
    const store = await writable(makeWorld());
    await store.create(recordOf(1), { embedder: { A: "first" } });
    await expect(store.create(recordOf(1, { author: "eve" }), {})).rejects.toThrow(/exists already/);
    expect((await store.list()).records[0]?.author).toBe("ada@lab");
    expect(await store.secrets(recordOf(1).id)).toEqual({ embedder: { A: "first" } });
  });

  it.each([
    ["cut off", (text: string) => text.slice(0, 100)],
    ["edited by hand", (text: string) => text.replace('"ada@lab"', '"eve@lab"')],
    ["emptied", () => ""],
    ["no record", () => '{"hello":1}'],
    ["a list", () => "[]"],
  ])("report a record that was %s, with its file and why, and trust the others", async (_, damage) => {
    const world = makeWorld();
    const store = await writable(world);
    await store.create(recordOf(1), {});
    await store.create(recordOf(2), {});
    const files = world.files(recordPath(2));
    for (const file of files) writeFileSync(file, damage(readFileSync(file, "utf8")));
    const { records, damaged } = await store.list();
    expect(records.map(({ number }) => number)).toEqual([1]);
    expect(damaged.map(({ file }) => file.replace(/^[a-z]+-\d:/, ""))).toEqual(files);
    for (const { because } of damaged) expect(because).toMatch(/\w{3}/);
  });

  it("trust no whole record under another one's name", async () => {
    const world = makeWorld();
    const store = await writable(world);
    await store.create(recordOf(1), {});
    for (const file of world.files(recordPath(1))) renameSync(file, `${dirname(file)}/${recordOf(7).id}.json`);
    const { records, damaged } = await store.list();
    expect(records).toEqual([]);
    expect(damaged[0]?.because).toBe(`it is the record of ${recordOf(1).id}`);
  });

  it("refuse secrets that were tampered with", async () => {
    const world = makeWorld();
    const store = await writable(world);
    await store.create(recordOf(1), { embedder: { A: "old" } });
    for (const file of world.files(`releases/${recordOf(1).id}.secrets.json`))
      writeFileSync(file, readFileSync(file, "utf8").replace("old", "new"));
    await expect(store.secrets(recordOf(1).id)).rejects.toThrow(/cannot be trusted/);
  });

  it("leave nothing behind when a record is removed, twice even", async () => {
    const world = makeWorld();
    const store = await writable(world);
    await store.create(recordOf(1), { embedder: { A: "1" } });
    await store.remove(recordOf(1).id);
    await store.remove(recordOf(1).id);
    for (const file of world.files(recordPath(1))) expect(readdirSync(dirname(file))).toEqual([]);
  });

  it.each(["r1-../../../etc/passwd", "r1-$(touch x)", "r1-0000000a\n"])("take no id that is none: %j", async (id) => {
    const store = await writable(makeWorld());
    const hostile = id as `r${number}-${string}`;
    await expect(store.secrets(hostile)).rejects.toThrow(/is not a release id/);
    await expect(store.remove(hostile)).rejects.toThrow(/is not a release id/);
    await expect(store.create({ ...recordOf(1), id: hostile }, {})).rejects.toThrow(/is not a release id/);
  });

  it("refuse a directory that others can write into", async () => {
    const world = makeWorld();
    const store = await writable(world);
    await store.create(recordOf(1), {});
    for (const file of world.files(recordPath(1))) chmodSync(dirname(file), 0o777);
    await expect(store.create(recordOf(2), {})).rejects.toMatchObject({ exit: "preflightRefused" });
    expect(world.files(recordPath(2)).filter((file) => existsSync(file))).toEqual([]);
  });

  it("give one hmac to everybody in an environment, also to those who make its key at once, and another one elsewhere", async () => {
    const [world, elsewhere] = [makeWorld(), makeWorld()];
    await world.party(1).leases.acquire("deploy", ms(0), never);
    const answers = await Promise.all([1, 2, 3, 4].map((pid) => world.party(pid).releases.hmac("s3cret")));
    expect(new Set(answers).size).toBe(1);
    expect(answers[0]).toMatch(/^[0-9a-f]{64}$/);
    expect(await world.party(5).releases.hmac("s3cret")).toBe(answers[0]);
    for (const file of world.files("hmac.key")) expect(modeOf(file)).toBe("600");
    expect(await elsewhere.party(1).releases.hmac("s3cret")).not.toBe(answers[0]);
  });

  it("say what to do about a damaged key", async () => {
    const world = makeWorld();
    await world.party(1).releases.hmac("x");
    for (const file of world.files("hmac.key")) writeFileSync(file, "abc");
    await expect(world.party(2).releases.hmac("x")).rejects.toMatchObject({
      message: expect.stringMatching(/damaged/) as unknown,
    });
  });
}
