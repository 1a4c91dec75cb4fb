import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { FileAuditLog } from "../../cli/src/adapters/audit/file-audit-log.js";
import { SystemClock } from "../../cli/src/adapters/clock/system-clock.js";
import { temporaryDirectories } from "../support/temporary.js";
import { until } from "../support/until.js";

const temporary = temporaryDirectories();
const support = fileURLToPath(new URL("../support/", import.meta.url));
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

interface Line {
  what: "took" | "gave";
  token: number;
  pid: number;
}

function world(): {
  state: string;
  journal: string;
  lines: () => Line[];
  contend: (rounds: number, holdMs: number) => ChildProcess;
} {
  const directory = temporary();
  const [state, journal] = [join(directory, "state"), join(directory, "journal")];
  const lines = (): Line[] =>
    (existsSync(journal) ? readFileSync(journal, "utf8") : "")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => {
        const [what, token, pid] = line.split(" ");
        return { what: what as Line["what"], token: Number(token), pid: Number(pid) };
      });
  const contend = (rounds: number, holdMs: number): ChildProcess => {
    const args = ["--import", join(support, "run-typescript.mjs"), join(support, "lease-contender.ts"), state, journal];
    const child = spawn(process.execPath, [...args, rounds.toString(), holdMs.toString()], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    children.push(child);
    return child;
  };
  return { state, journal, lines, contend };
}

const ended = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode);
    else child.once("exit", resolve);
  });

/** The journal is written only while holding: whoever appears between another's `took` and `gave` held it as well. */
function expectOneHolderAtATime(lines: readonly Line[], killed: ReadonlySet<number>): void {
  const tokens = lines.filter((line) => line.what === "took").map((line) => line.token);
  expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b));
  let holder: Line | null = null;
  for (const line of lines) {
    if (line.what === "took") {
      if (holder !== null) expect(killed.has(holder.pid)).toBe(true);
      holder = line;
    } else {
      expect(line).toMatchObject({ token: holder?.token, pid: holder?.pid });
      holder = null;
    }
  }
}

describe("a lease among real processes", { timeout: 90_000 }, () => {
  it("has exactly one holder at any time, and tokens only rise", async () => {
    const { lines, contend } = world();
    const codes = await Promise.all(Array.from({ length: 5 }, () => ended(contend(6, 4))));
    expect(codes).toEqual([0, 0, 0, 0, 0]);
    expect(lines().filter((line) => line.what === "took")).toHaveLength(30);
    expectOneHolderAtATime(lines(), new Set());
  });

  it("passes on at once when its holder is killed, and the audit says so", async () => {
    const { state, lines, contend } = world();
    const victim = contend(1, 60_000);
    await until(() => lines().length === 1, "the victim holds the lease", 30_000);
    const others = [contend(3, 4), contend(3, 4)];
    victim.kill("SIGKILL");
    const killedAt = performance.now();
    await until(() => lines().some((line) => line.token === 2), "the next one holds it", 30_000);
    expect(performance.now() - killedAt).toBeLessThan(15_000);
    expect(await Promise.all(others.map(ended))).toEqual([0, 0]);
    expectOneHolderAtATime(lines(), new Set([victim.pid ?? 0]));
    const entries = await new FileAuditLog(state, "reader", new SystemClock()).read(100);
    expect(entries.filter((entry) => entry.action === "lease-takeover")).toHaveLength(1);
  });
});
