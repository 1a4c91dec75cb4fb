import { appendFileSync, copyFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { instanceLogs, lastLines, LogFollower } from "../../../../cli/src/adapters/targets/process/log-files.js";
import { temporaryDirectories } from "../../../support/temporary.js";

const temporary = temporaryDirectories();

/** As the keeper does it. */
function rotate(file: string): void {
  copyFileSync(file, `${file}.1`);
  truncateSync(file, 0);
}

describe("the last lines of a log", () => {
  it("are none where there is no log", async () => {
    expect(await lastLines(join(temporary(), "x.log"), 10)).toEqual([]);
  });

  it("are found in a log much longer than one read, with a last line that has no newline", async () => {
    const file = join(temporary(), "x.log");
    const lines = Array.from({ length: 5000 }, (_, i) => `line ${i.toString()} ${"ü".repeat(30)}`);
    writeFileSync(file, lines.join("\n"));
    expect(await lastLines(file, 3)).toEqual(lines.slice(-3));
    expect(await lastLines(file, 0)).toEqual([]);
    expect(await lastLines(file, 4900)).toEqual(lines.slice(-4900));
  });

  it("reach into the rotated file", async () => {
    const file = join(temporary(), "x.log");
    writeFileSync(file, "1\n2\n3\n");
    rotate(file);
    appendFileSync(file, "4\n");
    expect(await lastLines(file, 3)).toEqual(["2", "3", "4"]);
  });

  it("stop before an end that was given", async () => {
    const file = join(temporary(), "x.log");
    writeFileSync(file, "1\n2\n3\n");
    expect(await lastLines(file, 5, 4)).toEqual(["1", "2"]);
  });
});

describe("a followed log", () => {
  it("gives complete lines, each once, in order, through a rotation", async () => {
    const file = join(temporary(), "x.log");
    writeFileSync(file, "old\n");
    const follower = await LogFollower.fromEnd(file);
    expect(await follower.read()).toEqual([]);
    appendFileSync(file, "a\nb");
    expect(await follower.read()).toEqual(["a"]);
    appendFileSync(file, "b\nc\n");
    rotate(file);
    appendFileSync(file, "d\n");
    expect(await follower.read()).toEqual(["bb", "c", "d"]);
    expect(await follower.read()).toEqual([]);
  });

  it("waits for a log that is not there yet", async () => {
    const file = join(temporary(), "x.log");
    const follower = LogFollower.fromStart(file);
    expect(await follower.read()).toEqual([]);
    writeFileSync(file, "ü\n");
    expect(await follower.read()).toEqual(["ü"]);
  });
});

describe("the logs of an environment", () => {
  it("are those of instances, and nothing else that lies there", async () => {
    const directory = temporary();
    for (const name of [
      "keeper.log",
      "index-r1-00000001-a.log",
      "index-r1-00000001-a.log.1",
      "embedder-r12-0000000c-b.log",
      "x.log",
    ])
      writeFileSync(join(directory, name), "");
    const found = await instanceLogs(directory);
    expect(found.map((log) => log.instance).sort()).toEqual(["embedder-r12-0000000c-b", "index-r1-00000001-a"]);
    expect(found.find((log) => log.service === "index")?.file).toBe(join(directory, "index-r1-00000001-a.log"));
    expect(await instanceLogs(join(directory, "absent"))).toEqual([]);
  });
});
