import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { summaryOf } from "../../../../cli/src/domain/preflight/node-summary.js";
import { recordOf } from "../../../support/records.js";
import { temporaryDirectories } from "../../../support/temporary.js";
import { until } from "../../../support/until.js";
import { factsOf } from "../../preflight/captures.js";
import type { Loss } from "./faulty-host.js";
import { World } from "./world.js";

const temporary = temporaryDirectories();
const secrets = { embedder: { API_KEYS: "hunter2-'ü'" } };
const [first, good] = [recordOf(1), recordOf(1, { state: "good" })];
const isRoot = process.getuid?.() === 0;
const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

function world(): { world: World; root: string; directory: string } {
  const made = new World(temporary());
  const root = made.hosts[0]?.root ?? "";
  return { world: made, root, directory: join(root, "releases") };
}

it("a record that says what its nodes were is read by all, byte for byte the same on every host", async () => {
  const hosts = new World(temporary(), ["gpu-1", "gpu-2"]);
  const ada = await hosts.working("ada");
  const nodes = ["gpu-1", "gpu-2"].map((node) => summaryOf(node, factsOf("t4-ubuntu"), "2026-03-01T12:00:00.000Z"));
  const record = recordOf(1, { nodes });
  await ada.releases.create(record, secrets);
  await ada.releases.update({ ...record, state: "good" });
  const seen = await hosts.person("bob").releases.list();
  expect(seen.records).toEqual([{ ...record, state: "good" }]);
  expect(seen.copies).toEqual(["gpu-1", "gpu-2"].map((host) => ({ host, state: "whole" })));
});

describe.each<Loss>(["answer", "input", "before"])("a connection that is lost (%s)", (loss) => {
  it("once, is not noticed: every operation is done, and done once", async () => {
    const { world: hosts, directory } = world();
    const ada = await hosts.working("ada");
    ada.line.losses.push(loss);
    await ada.releases.create(first, secrets);
    ada.line.losses.push(loss);
    await ada.releases.update(good);
    ada.line.losses.push(loss);
    expect((await ada.releases.list()).records).toEqual([good]);
    ada.line.losses.push(loss);
    expect(await ada.releases.secrets(first.id)).toEqual(secrets);
    expect(readdirSync(directory)).toHaveLength(2);
    ada.line.losses.push(loss);
    await ada.releases.remove(first.id);
    expect(readdirSync(directory)).toEqual([]);
  });

  it("for longer, is told, leaves nothing half-done, and the same call made again succeeds", async () => {
    const { world: hosts, directory } = world();
    const ada = await hosts.working("ada");
    ada.line.losses.push(loss, loss);
    await expect(ada.releases.create(first, secrets)).rejects.toMatchObject({ exit: "targetUnreachable" });
    await ada.releases.create(first, secrets);
    ada.line.losses.push(loss, loss);
    await expect(ada.releases.update(good)).rejects.toMatchObject({ exit: "targetUnreachable" });
    const between = (await hosts.person("bob").releases.list()).records;
    expect(between).toEqual([loss === "answer" ? good : first]);
    await ada.releases.update(good);
    expect((await hosts.person("bob").releases.list()).records).toEqual([good]);
    expect(readFileSync(join(directory, `${first.id}.json`), "utf8")).toContain('"revision":2');
    expect(readdirSync(directory)).toHaveLength(2);
  });
});

describe("records on a host", () => {
  it("never show a secret in a command", async () => {
    const ada = await world().world.working("ada");
    await ada.releases.create(first, secrets);
    const hmac = await ada.releases.hmac("hunter2");
    expect(ada.line.commands.length).toBeGreaterThan(2);
    expect(JSON.stringify(ada.line.commands.map(({ argv }) => argv))).not.toContain("hunter2");
    expect(hmac).toMatch(/^[0-9a-f]{64}$/);
  });

  it("are not written without a lease, nor under one that was lost, and what is there stays", async () => {
    const { world: hosts, directory } = world();
    const ada = await hosts.working("ada");
    await ada.releases.create(first, secrets);
    await expect(hosts.person("bob").releases.update(good)).rejects.toThrow(/without the lease/);
    hosts.pass(40);
    const bob = await hosts.working("bob");
    const before = readFileSync(join(directory, `${first.id}.json`), "utf8");
    for (const write of [
      () => ada.releases.update(good),
      () => ada.releases.create(recordOf(2), secrets),
      () => ada.releases.remove(first.id),
    ])
      await expect(write()).rejects.toMatchObject({ because: expect.stringMatching(/lease 1 is not the newest/) as unknown });
    expect(readFileSync(join(directory, `${first.id}.json`), "utf8")).toBe(before);
    expect(readdirSync(directory)).toHaveLength(2);
    await bob.releases.update(good);
  });

  it("are not written under a lease that a reboot of the host ended", async () => {
    const { world: hosts } = world();
    const ada = await hosts.working("ada");
    hosts.hosts[0]?.reboot();
    await expect(ada.releases.create(first, {})).rejects.toMatchObject({ because: expect.stringMatching(/reboot/) as unknown });
  });

  it.each(["000", "077", "777"])("have their modes whatever the account's umask is: %s", async (umask) => {
    const { world: hosts, root, directory } = world();
    const ada = hosts.person("ada");
    ada.line.around = ["sh", "-c", 'umask "$1"; shift; exec "$@"', "sh", umask];
    await hosts.working("ada");
    await ada.releases.create(first, secrets);
    await ada.releases.hmac("x");
    expect([modeOf(root), modeOf(directory), modeOf(join(root, "leases"))]).toEqual(["755", "700", "700"]);
    const files = readdirSync(directory).map((name) => join(directory, name));
    for (const file of [...files, join(root, "hmac.key")]) expect(modeOf(file)).toBe("600");
  });

  it("get their modes back where others could only read, and are refused where others could write", async () => {
    const { world: hosts, directory } = world();
    const ada = await hosts.working("ada");
    await ada.releases.create(first, secrets);
    const file = join(directory, `${first.id}.secrets.json`);
    chmodSync(directory, 0o755);
    chmodSync(file, 0o644);
    expect(await ada.releases.secrets(first.id)).toEqual(secrets);
    await ada.releases.update(good);
    expect([modeOf(directory), modeOf(file)]).toEqual(["700", "600"]);
    chmodSync(file, 0o666);
    await expect(ada.releases.secrets(first.id)).rejects.toMatchObject({
      exit: "preflightRefused",
      because: expect.stringMatching(/written by others/) as unknown,
    });
  });

  it("are neither read nor written through links that somebody put in their place", async () => {
    const { world: hosts, root, directory } = world();
    const ada = await hosts.working("ada");
    await ada.releases.create(first, secrets);
    for (const name of [`${first.id}.json`, `${first.id}.secrets.json`]) {
      renameSync(join(directory, name), join(root, name));
      symlinkSync(join(root, name), join(directory, name));
    }
    expect(await ada.releases.list()).toMatchObject({ records: [], damaged: [{ because: "it is no plain file" }] });
    await expect(ada.releases.secrets(first.id)).rejects.toMatchObject({ exit: "preflightRefused" });
    await expect(ada.releases.update(good)).rejects.toThrow(/keeps no record/);
    renameSync(directory, `${directory}-moved`);
    symlinkSync(`${directory}-moved`, directory);
    await expect(ada.releases.create(recordOf(2), {})).rejects.toMatchObject({ exit: "preflightRefused" });
  });

  it("pass over files with hostile names", async () => {
    const { world: hosts, directory } = world();
    const ada = await hosts.working("ada");
    await ada.releases.create(first, {});
    for (const name of ["r2 $(id).json", "r3\n-00000003.json", "r4-0000000g.json", "r5-00000005.json.new", "-rf"])
      writeFileSync(join(directory, name), "hostile");
    expect(await ada.releases.list()).toMatchObject({ records: [first], damaged: [] });
  });

  it.runIf(isRoot)("are never taken for none by an account that may not read them", async () => {
    const folder = temporary();
    chmodSync(folder, 0o755);
    const hosts = new World(folder);
    const ada = await hosts.working("ada");
    await ada.releases.create(first, secrets);
    const eve = hosts.person("eve");
    eve.line.around = ["setpriv", "--reuid=65534", "--clear-groups"];
    await expect(eve.releases.list()).rejects.toMatchObject({ because: expect.stringMatching(/Permission denied/) as unknown });
    await expect(eve.leases.holder()).rejects.toMatchObject({ because: expect.stringMatching(/Permission denied/) as unknown });
    await expect(eve.releases.hmac("x"))
      .resolves.toBeTypeOf("string")
      .catch(() => undefined);
  });
});

describe("a write that is slow on the host", () => {
  /** `mv` is what gives a record its name; this one stops right before, until it is told to go on. */
  function haltingTools(folder: string): string {
    const tools = join(folder, "tools");
    mkdirSync(tools);
    const halt = 'touch "$halt/halted"; until [ -e "$halt/go" ]; do sleep 0.05; done';
    writeFileSync(join(tools, "mv"), `#!/bin/sh\nhalt='${folder}'; ${halt}\nexec /bin/mv "$@"\n`);
    chmodSync(join(tools, "mv"), 0o755);
    return `${tools}:${process.env["PATH"] ?? ""}`;
  }

  it("is over before anybody else gets the lease, so that nothing is written behind the new holder's back", async () => {
    const folder = temporary();
    const hosts = new World(folder);
    const ada = await hosts.working("ada");
    await ada.releases.create(first, {});
    const slow = new World(folder, ["gpu-1"], { PATH: haltingTools(folder) }).person("ada");
    for (const [position, state] of slow.states.entries()) state.fence = ada.states[position]?.fence ?? null;
    await slow.releases.list();
    const writing = slow.releases.update(good);
    await until(() => existsSync(join(folder, "halted")), "the write has passed the fence");
    hosts.pass(40);
    let bobHolds = false;
    const taking = hosts.working("bob").then(() => (bobHolds = true));
    await wait(700);
    expect(bobHolds).toBe(false);
    writeFileSync(join(folder, "go"), "");
    await Promise.all([writing, taking]);
    expect((await hosts.person("bob").releases.list()).records).toEqual([good]);
    await expect(slow.releases.update(first)).rejects.toThrow(/lease on gpu-1 was lost/);
  });
});

describe("a host whose disk is full", () => {
  /** `cat` is what writes; this one stops where a disk would. */
  function fullDisk(folder: string): string {
    const tools = join(folder, "tools");
    mkdirSync(tools);
    writeFileSync(join(tools, "cat"), "#!/bin/sh\nhead -c 20\necho 'cat: write error: No space left on device' >&2\nexit 1\n");
    chmodSync(join(tools, "cat"), 0o755);
    return `${tools}:${process.env["PATH"] ?? ""}`;
  }

  it("keeps the old record whole and nothing half-written, and says what to do", async () => {
    const folder = temporary();
    const ada = await new World(folder).working("ada");
    await ada.releases.create(first, secrets);
    const full = new World(folder, ["gpu-1"], { PATH: fullDisk(folder) }).person("ada");
    for (const [position, state] of full.states.entries()) state.fence = ada.states[position]?.fence ?? null;
    await full.releases.list();
    const failure = expect.objectContaining({ because: expect.stringMatching(/No space left/) as unknown }) as unknown;
    await expect(full.releases.update(good)).rejects.toEqual(failure);
    await expect(full.releases.create(recordOf(2), secrets)).rejects.toEqual(failure);
    expect(await ada.releases.list()).toMatchObject({ records: [first], damaged: [] });
    expect(readdirSync(join(ada.states[0]?.root ?? "", "releases"))).toHaveLength(2);
  });

  it.runIf(isRoot)("does the same when it is really full, and keeps its lease", async () => {
    const folder = temporary();
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=128k", "tmpfs", folder]);
    try {
      const hosts = new World(folder);
      const ada = await hosts.working("ada");
      await ada.releases.create(first, secrets);
      const file = join(folder, "filler");
      execFileSync("sh", ["-c", 'cat /dev/zero >"$1" 2>/dev/null || true', "sh", file]);
      await expect(ada.releases.create(recordOf(2, { failure: "x".repeat(9000) }), secrets)).rejects.toThrow(
        /could not be written/,
      );
      await expect(ada.releases.update(good)).rejects.toMatchObject({
        nextSteps: expect.arrayContaining(["gpuctl prune"]) as unknown,
      });
      await expect(ada.audit.append({ action: "deploy", release: null, detail: "" })).rejects.toThrow(/audit/);
      expect(await ada.releases.list()).toMatchObject({ records: [first], damaged: [] });
      expect(readdirSync(join(ada.states[0]?.root ?? "", "releases"))).toHaveLength(2);
      for (let beat = 0; beat < 3; beat++) {
        hosts.pass(20);
        await ada.lease.check();
      }
      rmSync(file);
      await ada.releases.update(good);
      expect((await hosts.person("bob").releases.list()).records).toEqual([good]);
    } finally {
      execFileSync("umount", [folder]);
    }
  });
});
