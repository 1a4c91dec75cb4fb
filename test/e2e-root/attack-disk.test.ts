import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { changedWheel } from "../support/faulty-wheel.js";
import { Sandbox } from "../support/sandbox.js";
import { status } from "../support/serving.js";

/** Root ignores file modes, so a full disk is a small tmpfs and a read-only directory is a bind mount. */
describe("a disk that refuses", () => {
  let sandbox: Sandbox;
  const mounted: string[] = [];

  const mount = (...args: string[]): void => {
    execFileSync("mount", args);
    const point = args.at(-1);
    if (point !== undefined && !mounted.includes(point)) mounted.push(point);
  };
  const unmountAll = (): void => {
    for (const point of mounted.splice(0).reverse()) execFileSync("umount", ["-l", point]);
  };

  afterEach(async () => {
    // What runs is described on the mounted disk; what is mounted cannot be removed.
    await sandbox.run(["destroy", "--confirm", "local"]);
    unmountAll();
    await sandbox.close();
  });

  test("a full disk while the record is written: the deploy says so, the old release serves, and with space it works again", async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
    const state = join(sandbox.directory, "state");
    mkdirSync(state, { recursive: true });
    mount("-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", state);
    await sandbox.result(["deploy"]);
    const filler = join(state, "filler");
    const wheel = changedWheel(sandbox.directory, "full");
    // The wheel of the second release is staged first, so that the record is what meets the full disk.
    await sandbox.result(["plan"], { GPUCTL_WHEEL: wheel });
    fill(filler, state);
    const { code, document } = await sandbox.json(["deploy"], { GPUCTL_WHEEL: wheel });
    expect(code).not.toBe(0);
    expect(JSON.stringify(document.error)).toMatch(/space|full|ENOSPC/i);
    expect((await sandbox.post("embedder", "/embed", { inputs: ["still here"] })).status).toBe(200);
    const seen = await status(sandbox);
    expect(seen.release?.state).toBe("good");
    rmSync(filler);
    await sandbox.result(["deploy"], { GPUCTL_WHEEL: wheel });
    expect((await status(sandbox)).release?.state).toBe("good");
  }, 120_000);

  test("a full disk under the index: a write is refused and says why, searches go on, nothing acknowledged is lost", async () => {
    sandbox = await Sandbox.create({ services: ["embedder", "index"], soak: "1s" });
    const state = join(sandbox.directory, "state");
    mkdirSync(state, { recursive: true });
    mount("-t", "tmpfs", "-o", "size=32m,mode=0700", "tmpfs", state);
    await sandbox.result(["deploy"]);
    const add = (id: string): ReturnType<Sandbox["post"]> =>
      sandbox.post("index", "/api/v1/vector-store/add", {
        items: [{ id, text: `${id} ${"wombats dig burrows ".repeat(2000)}` }],
      });
    expect((await add("before")).status).toBe(200);
    const filler = join(state, "filler");
    fill(filler, state);
    let acknowledged = 1;
    let refused: Awaited<ReturnType<typeof add>> | undefined;
    // Pages that the log and the database hold already may take a few more.
    for (let n = 0; n < 200 && refused === undefined; n += 1) {
      const answer = await add(`full-${String(n)}`);
      if (answer.status === 200) acknowledged += 1;
      else refused = answer;
    }
    expect(refused?.status).toBeGreaterThanOrEqual(500);
    expect(JSON.stringify(refused?.body)).toMatch(/space|disk|full/i);
    const found = await sandbox.post("index", "/api/v1/vector-store/search", { text: "wombats", k: 1 });
    expect(found.status).toBe(200);
    const snapshot = await sandbox.json(["index", "snapshot"]);
    expect(snapshot.code).toBe(1);
    expect(JSON.stringify(snapshot.document.error)).toMatch(/space/i);
    rmSync(filler);
    expect((await add("after")).status).toBe(200);
    expect(await sandbox.result(["index", "snapshot"])).toMatchObject({ items: acknowledged + 1 });
    expect(await sandbox.result(["index", "verify"])).toMatchObject({ ok: true, items: acknowledged + 1 });
  }, 120_000);

  test("a read-only state directory: refused before anything starts; reading still works", async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
    await sandbox.result(["deploy"]);
    const before = (await status(sandbox)).release?.id;
    const state = join(sandbox.directory, "state");
    mount("--bind", state, state);
    execFileSync("mount", ["-o", "remount,ro,bind", state]);
    const { code, document } = await sandbox.json(["deploy"], { GPUCTL_WHEEL: changedWheel(sandbox.directory, "readonly") });
    expect(code).toBe(5);
    expect(JSON.stringify(document.error)).toMatch(/read-only|EROFS|write/i);
    expect((await status(sandbox)).release?.id).toBe(before);
    expect((await sandbox.post("embedder", "/embed", { inputs: ["still here"] })).status).toBe(200);
    unmountAll();
  }, 120_000);
});

function fill(file: string, on: string): void {
  const free = (): number => {
    const { bavail, bsize } = statfsSync(on);
    return bavail * bsize;
  };
  try {
    writeFileSync(file, Buffer.alloc(free()));
  } catch {
    // As full as it gets.
  }
  if (free() > 4096) throw new Error(`${String(free())} bytes are still free; ${String(readFileSync(file).length)} written`);
}
