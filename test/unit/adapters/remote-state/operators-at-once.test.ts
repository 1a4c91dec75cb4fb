import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { temporaryDirectories } from "../../../support/temporary.js";
import { until } from "../../../support/until.js";
import type { JournalLine } from "./operator-process.js";
import { World } from "./world.js";

const temporary = temporaryDirectories();
const children: ChildProcess[] = [];
const [hook, script] = ["../../../support/run-typescript.mjs", "./operator-process.ts"].map((path) =>
  fileURLToPath(new URL(path, import.meta.url)),
);

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

function world(...names: string[]): {
  hosts: World;
  lines: () => readonly JournalLine[];
  start: (rounds: number, holdMs: number, machine?: string) => ChildProcess;
} {
  const folder = temporary();
  const journal = join(folder, "journal");
  return {
    hosts: new World(folder, names),
    lines: () =>
      (existsSync(journal) ? readFileSync(journal, "utf8") : "")
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line) as JournalLine),
    start(rounds, holdMs, machine = "") {
      const args = ["--import", hook ?? "", script ?? "", folder, names.join(","), journal, `${rounds}`, `${holdMs}`, machine];
      const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
      children.push(child);
      return child;
    },
  };
}

const ended = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode);
    else child.once("exit", resolve);
  });

/** Whoever appears between another's `took` and `gave` held the lease as well, unless that one was killed. */
function expectOneAtATime(lines: readonly JournalLine[], killed: number | undefined): void {
  let holder: JournalLine | null = null;
  for (const line of lines) {
    if (line.what === "took") {
      if (holder !== null) expect(holder.pid).toBe(killed);
      holder = line;
    } else {
      expect(line).toMatchObject({ token: holder?.token, pid: holder?.pid });
      holder = null;
    }
  }
}

describe("operators at once, as real processes", { timeout: 90_000 }, () => {
  it("work one after another on all hosts, and every host has what each of them wrote", async () => {
    const { hosts, lines, start } = world("gpu-1", "gpu-2");
    const codes = await Promise.all([start(2, 20), start(2, 20)].map(ended));
    expect(codes).toEqual([0, 0]);
    expectOneAtATime(lines(), undefined);
    const { records, copies, damaged } = await hosts.person("reader").releases.list();
    expect(records.map(({ number, state }) => [number, state])).toEqual([1, 2, 3, 4].map((number) => [number, "good"]));
    expect([copies.map(({ state }) => state), damaged]).toEqual([["whole", "whole"], []]);
  });

  it("go on at once when one on this machine is killed, and leave nothing of it half-written", async () => {
    const { hosts, lines, start } = world("gpu-1", "gpu-2");
    const victim = start(1, 60_000);
    await until(() => lines().length === 1, "the victim holds the lease", 30_000);
    victim.kill("SIGKILL");
    await ended(victim);
    expect(await ended(start(1, 0))).toBe(0);
    expectOneAtATime(lines(), victim.pid);
    const reader = hosts.person("reader");
    expect((await reader.releases.list()).records.map(({ number }) => number)).toEqual([2]);
    const told = (await reader.audit.read(10)).filter(({ action }) => action === "lease-takeover");
    expect(told.length).toBeGreaterThan(0);
    for (const { detail } of told) expect(detail).toMatch(/its process is gone/);
  });

  it("wait for the silence of one that was killed on another machine, and not for its process", async () => {
    const { hosts, lines, start } = world("gpu-1");
    const victim = start(1, 60_000, "another machine");
    await until(() => lines().length === 1, "the victim holds the lease", 30_000);
    victim.kill("SIGKILL");
    await ended(victim);
    const next = start(1, 0);
    hosts.pass(25);
    expect(await hosts.person("reader").leases.holder()).toMatchObject({ state: "live", token: 1 });
    expect(lines()).toHaveLength(1);
    hosts.pass(6);
    expect(await ended(next)).toBe(0);
    expectOneAtATime(lines(), victim.pid);
    expect(lines().at(-1)).toMatchObject({ token: 2, what: "gave" });
  });
});
