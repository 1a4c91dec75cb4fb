import { spawn } from "node:child_process";
import { describe, expect, it } from "vitest";
import { isRunning, LinuxProcessTable, parseStartTime } from "../../../cli/src/adapters/state/process-identity.js";
import { until } from "../../support/until.js";

const stat = (name: string, state: string, threads = 1): string =>
  `42 (${name}) ${state} 1 42 42 0 -1 4194304 ${"0 ".repeat(10)}${threads.toString()} 0 777 0 0`;

describe("the identity of a process", () => {
  it("is its start time, whatever the process calls itself", () => {
    expect(parseStartTime(stat("node", "S"))).toBe(777);
    expect(parseStartTime(stat("a) R (b", "R"))).toBe(777);
  });

  it("does not exist for a zombie, or for nonsense", () => {
    expect(parseStartTime(stat("node", "Z"))).toBeNull();
    expect(parseStartTime(stat("node", "X"))).toBeNull();
    expect(parseStartTime("")).toBeNull();
  });

  it("lasts as long as its last thread, which may hold a listening socket after the first has ended", () => {
    expect(parseStartTime(stat("python", "Z", 3))).toBe(777);
  });

  it("is found for this process and for no impossible number", () => {
    const table = new LinuxProcessTable();
    const startTime = table.startTime(process.pid) ?? 0;
    expect(startTime).toBeGreaterThan(0);
    expect(isRunning(table, { pid: process.pid, startTime })).toBe(true);
    expect(isRunning(table, { pid: process.pid, startTime: startTime + 1 })).toBe(false);
    for (const pid of [0, -1, 1.5, 2 ** 31, Number.NaN]) expect(table.startTime(pid)).toBeNull();
    expect(table.bootId).toMatch(/^[0-9a-f-]{36}$/);
    expect(table.bootMs()).toBeGreaterThan(0);
  });

  it("ends with the process, before anybody has waited for it", async () => {
    const table = new LinuxProcessTable();
    // The shell's child ends and is not waited for while the shell sleeps: a zombie.
    const shell = spawn("sh", ["-c", "true & echo $!; exec sleep 30"], { stdio: ["ignore", "pipe", "ignore"] });
    try {
      const pid = await new Promise<number>((resolve) =>
        shell.stdout.once("data", (data: Buffer) => {
          resolve(Number(data.toString()));
        }),
      );
      await until(() => table.startTime(pid) === null, "the zombie counts as gone");
    } finally {
      shell.kill("SIGKILL");
    }
  });
});
