import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FileReleaseStore } from "../../../cli/src/adapters/releases/file-release-store.js";
import { Failed, PreflightRefused } from "../../../cli/src/domain/errors.js";
import { recordOf } from "../../support/records.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();
const newState = (): string => join(temporary(), "state");
const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

describe("the release store", () => {
  it("is empty where nothing was ever deployed", async () => {
    expect(await new FileReleaseStore(newState()).list()).toEqual({ records: [], damaged: [] });
  });

  it("gives back what was written, by number and not by name or date", async () => {
    const store = new FileReleaseStore(newState());
    for (const number of [10, 2, 1])
      await store.create(recordOf(number, { createdAt: `20${(40 - number).toString()}-01-01T00:00:00Z` }), {});
    expect((await store.list()).records.map((record) => record.number)).toEqual([1, 2, 10]);
    await store.update(recordOf(2, { state: "good" }));
    expect((await store.list()).records[1]).toEqual(recordOf(2, { state: "good" }));
  });

  it("keeps secrets beside the record, readable by nobody else, and never in it", async () => {
    const state = newState();
    const store = new FileReleaseStore(state);
    const secrets = { embedder: { API_KEYS: "k-1\nk-2" } };
    await store.create(recordOf(1), secrets);
    expect(await store.secrets(recordOf(1).id)).toEqual(secrets);
    const directory = join(state, "releases");
    for (const name of readdirSync(directory)) expect(modeOf(join(directory, name))).toBe("600");
    expect([modeOf(state), modeOf(directory)]).toEqual(["700", "700"]);
    expect(readFileSync(join(directory, `${recordOf(1).id}.json`), "utf8")).not.toContain("k-1");
  });

  it("writes no secrets file for a release without secrets, and answers with none", async () => {
    const state = newState();
    const store = new FileReleaseStore(state);
    await store.create(recordOf(1), { embedder: {} });
    expect(readdirSync(join(state, "releases"))).toEqual([`${recordOf(1).id}.json`]);
    expect(await store.secrets(recordOf(1).id)).toEqual({});
  });

  it("never overwrites a record, and keeps the first one's secrets", async () => {
    const store = new FileReleaseStore(newState());
    await store.create(recordOf(1), {});
    await expect(store.create(recordOf(1, { author: "eve" }), {})).rejects.toThrow(/exists already/);
    expect((await store.list()).records[0]?.author).toBe("ada@lab");
  });

  it.each([
    ["cut off", (text: string) => text.slice(0, 100)],
    ["edited", (text: string) => text.replace('"ada@lab"', '"eve@lab"')],
    ["empty", () => ""],
    ["no record", () => '{"hello":1}'],
    ["a list", () => "[]"],
  ])("reports a record that was %s, with its file and why, and trusts the others", async (_, damage) => {
    const state = newState();
    const store = new FileReleaseStore(state);
    await store.create(recordOf(1), {});
    await store.create(recordOf(2), {});
    const file = join(state, "releases", `${recordOf(2).id}.json`);
    writeFileSync(file, damage(readFileSync(file, "utf8")));
    const { records, damaged } = await store.list();
    expect(records.map((record) => record.number)).toEqual([1]);
    expect(damaged).toHaveLength(1);
    expect(damaged[0]?.file).toBe(file);
    expect(damaged[0]?.because).toMatch(/\w{3}/);
  });

  it("does not trust a whole record under another one's name", async () => {
    const state = newState();
    const store = new FileReleaseStore(state);
    await store.create(recordOf(1), {});
    renameSync(join(state, "releases", `${recordOf(1).id}.json`), join(state, "releases", `${recordOf(7).id}.json`));
    expect(await store.list()).toMatchObject({ records: [], damaged: [{ because: `it is the record of ${recordOf(1).id}` }] });
  });

  it("says that a record is from a newer gpuctl instead of misreading it", async () => {
    const store = new FileReleaseStore(newState());
    await store.create({ ...recordOf(1), schemaVersion: 2 } as never, {});
    expect((await store.list()).damaged[0]?.because).toMatch(/schemaVersion 2/);
  });

  it("leaves nothing behind when it is removed", async () => {
    const state = newState();
    const store = new FileReleaseStore(state);
    await store.create(recordOf(1), { embedder: { A: "1" } });
    await store.remove(recordOf(1).id);
    await store.remove(recordOf(1).id);
    expect(readdirSync(join(state, "releases"))).toEqual([]);
  });

  it("takes no id that would leave its directory", async () => {
    const store = new FileReleaseStore(newState());
    await expect(store.secrets("r1-../../../etc/passwd")).rejects.toThrow(Failed);
  });

  it("refuses secrets that were tampered with", async () => {
    const state = newState();
    const store = new FileReleaseStore(state);
    await store.create(recordOf(1), { embedder: { A: "old" } });
    const file = join(state, "releases", `${recordOf(1).id}.secrets.json`);
    writeFileSync(file, readFileSync(file, "utf8").replace("old", "new"));
    await expect(store.secrets(recordOf(1).id)).rejects.toThrow(/cannot be trusted/);
  });

  it("refuses a state directory that others can write", async () => {
    const state = newState();
    mkdirSync(state);
    chmodSync(state, 0o777);
    await expect(new FileReleaseStore(state).create(recordOf(1), {})).rejects.toThrow(PreflightRefused);
    expect(readdirSync(state)).toEqual([]);
  });
});

describe("the hmac of a secret", () => {
  it("is stable within an environment and means nothing in another", async () => {
    const [here, there] = [newState(), newState()];
    const first = await new FileReleaseStore(here).hmac("s3cret");
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    expect(await new FileReleaseStore(here).hmac("s3cret")).toBe(first);
    expect(await new FileReleaseStore(there).hmac("s3cret")).not.toBe(first);
    expect(modeOf(join(here, "hmac.key"))).toBe("600");
  });

  it("is the same for two processes that make the key at once", async () => {
    const state = newState();
    const answers = await Promise.all(Array.from({ length: 8 }, () => new FileReleaseStore(state).hmac("x")));
    expect(new Set(answers).size).toBe(1);
  });

  it("says what to do about a damaged key", async () => {
    const state = newState();
    await new FileReleaseStore(state).hmac("x");
    writeFileSync(join(state, "hmac.key"), "abc");
    await expect(new FileReleaseStore(state).hmac("x")).rejects.toMatchObject({
      nextSteps: [`rm ${join(state, "hmac.key")}`, expect.any(String)] as unknown[],
    });
  });
});
