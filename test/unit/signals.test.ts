import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { packageRoot } from "../support/run-command.js";
import { until } from "../support/until.js";

const signals = JSON.stringify(join(packageRoot, "dist/signals.js"));

/** A process that watches for signals as a command does; `cleanUp` runs when it was asked to stop. */
function watcher(cleanUp: string): { child: ChildProcess; said: () => string; ended: Promise<number | null> } {
  const script = `
    const { SignalWatch } = await import(${signals});
    const watch = new SignalWatch((text) => process.stderr.write(text));
    const alive = setInterval(() => undefined, 1000);
    watch.signal.addEventListener("abort", () => { ${cleanUp} });
    process.stderr.write("ready\\n");`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "ignore", "pipe"] });
  let text = "";
  child.stderr.setEncoding("utf8").on("data", (part: string) => (text += part));
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  return { child, said: () => text, ended };
}

describe("a signal to a command", () => {
  let child: ChildProcess | undefined;
  afterEach(() => {
    child?.kill("SIGKILL");
  });

  it("lets it clean up first", async () => {
    const run = watcher(`process.stderr.write("cleaned up: " + watch.caught); clearInterval(alive); watch.dispose();`);
    child = run.child;
    await until(() => run.said().includes("ready"), "the watcher is up");
    run.child.kill("SIGTERM");
    expect(await run.ended).toBe(0);
    expect(run.said()).toContain("cleaned up: SIGTERM");
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("ends it at once the second time: %s gives %i", async (signal, code) => {
    const run = watcher("/* a clean-up that hangs */");
    child = run.child;
    await until(() => run.said().includes("ready"), "the watcher is up");
    run.child.kill("SIGINT");
    await until(() => run.said().includes("again to stop at once"), "it says that it is stopping");
    run.child.kill(signal);
    expect(await run.ended).toBe(code);
  });
});
