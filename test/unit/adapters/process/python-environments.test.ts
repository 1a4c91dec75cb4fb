import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { PythonEnvironments } from "../../../../cli/src/adapters/targets/process/python-environment.js";
import { InstanceFiles } from "../../../../cli/src/adapters/targets/process/instance-files.js";
import { prune } from "../../../../cli/src/adapters/targets/process/pruning.js";
import { StateLayout } from "../../../../cli/src/adapters/targets/process/state-layout.js";
import { specFor } from "../../../support/records.js";
import { temporaryDirectories } from "../../../support/temporary.js";

const temporary = temporaryDirectories();
const lock = "b".repeat(64);
const other = "c".repeat(64);

function make(cache: string, name: string, complete = true): string {
  const directory = join(cache, "python", name);
  mkdirSync(join(directory, "bin"), { recursive: true });
  symlinkSync(process.execPath, join(directory, "bin/python"));
  if (complete) writeFileSync(join(directory, ".complete"), "");
  return directory;
}

describe("a Python environment", () => {
  it("is found by the lock it was made from, the newest Python first, complete ones only", async () => {
    const cache = temporary();
    const environments = new PythonEnvironments(cache);
    expect(await environments.find(lock)).toBeNull();
    make(cache, `${"c".repeat(16)}-cp311`);
    make(cache, `${"b".repeat(16)}-cp313`, false);
    expect(await environments.find(lock)).toBeNull();
    make(cache, `${"b".repeat(16)}-cp39`);
    const newest = make(cache, `${"b".repeat(16)}-cp312`);
    expect(await environments.find(lock)).toBe(newest);
    expect(environments.directory(lock, 11)).toBe(join(cache, `python/${"b".repeat(16)}-cp311`));
  });

  it("does not count when the system's Python was upgraded away below it", async () => {
    const cache = temporary();
    const directory = make(cache, `${"b".repeat(16)}-cp311`);
    rmSync(join(directory, "bin/python"));
    symlinkSync("/nowhere/python3.11", join(directory, "bin/python"));
    expect(await new PythonEnvironments(cache).find(lock)).toBeNull();
  });
});

describe("pruning Python environments", () => {
  function world() {
    const [cache, state, neighbour] = [temporary(), temporary(), temporary()];
    const environments = new PythonEnvironments(cache);
    const layout = new StateLayout({ state, run: join(state, "run"), cache, models: "/m" });
    const parts = {
      layout,
      files: new InstanceFiles(layout),
      environments,
      wheelsInUse: new Set<string>(),
      locksInUse: new Set<string>(),
      instances: [],
      forget: () => Promise.resolve(),
    };
    const directory = make(cache, `${"b".repeat(16)}-cp311`);
    return { cache, state, neighbour, environments, parts, directory };
  }

  it("removes one that this environment claimed and no kept release names", async () => {
    const { environments, parts, state, directory } = world();
    await environments.claim(directory, state);
    expect(await prune(parts, [specFor()])).toEqual([]);
    expect((await prune(parts, [specFor({ python: { lock: other } })])).map((each) => each.what)).toEqual([
      `Python environment ${"b".repeat(16)}`,
    ]);
    expect(existsSync(directory)).toBe(false);
  });

  it("leaves one that another project claims, until that project is gone", async () => {
    const { environments, parts, state, neighbour, directory } = world();
    await environments.claim(directory, state);
    await environments.claim(directory, neighbour);
    expect(await prune(parts, [])).toEqual([]);
    await environments.claim(directory, state);
    rmSync(neighbour, { recursive: true });
    expect(await prune(parts, [])).toHaveLength(1);
  });

  it("leaves one that it never claimed, and one that something runs from", async () => {
    const { environments, parts, state, directory } = world();
    expect(await prune(parts, [])).toEqual([]);
    await environments.claim(directory, state);
    expect(await prune({ ...parts, locksInUse: new Set([lock]) }, [])).toEqual([]);
  });

  it("removes wheels by the same rule, and what an interrupted copy left", async () => {
    const { parts } = world();
    const { layout } = parts;
    mkdirSync(layout.wheels, { recursive: true });
    const [kept, running, old] = ["a", "d", "e"].map((digit) => digit.repeat(64));
    for (const hash of [kept, running, old]) writeFileSync(layout.wheel(hash ?? ""), "12345");
    writeFileSync(join(layout.wheels, "x.whl.1.ab.tmp"), "123");
    const removed = await prune({ ...parts, wheelsInUse: new Set([running ?? ""]) }, [specFor()]);
    expect(removed.reduce((sum, each) => sum + each.bytes, 0)).toBe(8);
    expect([kept, running, old].map((hash) => existsSync(layout.wheel(hash ?? "")))).toEqual([true, true, false]);
  });
});
