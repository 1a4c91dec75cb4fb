import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { writeScript } from "../../../../cli/src/domain/ssh/remote-files.js";

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "gpuctl-files-"))));
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

test("a file is on the disk before it has its name, and its name is before anybody is told", () => {
  const [tools, target, log] = [join(folder, "tools"), join(folder, "place", "settings"), join(folder, "log")];
  mkdirSync(tools);
  mkdirSync(join(folder, "place"));
  writeFileSync(target, "old");
  // Notes what it is asked for, and what the file holds at that moment.
  writeFileSync(join(tools, "sync"), `#!/bin/sh\necho "$1 $(cat "$1" 2>/dev/null) $(cat ${target})" >>${log}\n`);
  chmodSync(join(tools, "sync"), 0o755);
  const env = { PATH: `${tools}:${process.env["PATH"] ?? ""}` };
  execFileSync("sh", ["-c", writeScript(target, 3, 0o600)], { env, input: "new" });
  const [first, second, ...more] = readFileSync(log, "utf8").trim().split("\n");
  expect(first).toMatch(new RegExp(`^${target}\\.\\w{8} new old$`));
  expect(second?.replace(/ +/g, " ")).toBe(`${join(folder, "place")} new`);
  expect(more).toEqual([]);
});
