import { expect, test } from "vitest";
import { mergedLogs } from "../../cli/src/adapters/targets/compose/merged-logs.js";
import Logs from "../../cli/src/commands/logs.js";
import type { Context, LogLine, NodeTarget } from "../../cli/src/ports.js";
import { Environment } from "../fakes/environment.js";
import { runCommand, type RunResult } from "../support/run-command.js";

const line = (instance: string, text: string): LogLine => ({ service: "embedder", instance, text });

/** Follows hosts that say their lines and then nothing more; Ctrl-C comes once so many lines are on the screen. */
async function follow(
  hosts: Readonly<Record<string, readonly LogLine[]>>,
  argv: readonly string[],
  lines: number,
): Promise<RunResult> {
  const { ctx, abort } = new Environment(["embedder"]).cli();
  const nodes = Object.entries(hosts).map(([node, said]): NodeTarget => {
    async function* logs(_services: unknown, _options: unknown, signal: AbortSignal): AsyncIterable<LogLine> {
      yield* said;
      await new Promise((resolve) => {
        signal.addEventListener("abort", resolve);
      });
    }
    return { node, driver: Object.assign(Object.create(ctx.driver) as typeof ctx.driver, { logs }) };
  });
  const logs: Context["driver"]["logs"] = (services, options, signal) => mergedLogs(nodes, services, options, signal);
  const context: Context = { ...ctx, driver: Object.assign(Object.create(ctx.driver) as typeof ctx.driver, { logs }) };
  return runCommand(Logs, argv, {
    prepare: (command) => {
      Object.assign(command, { context: () => Promise.resolve(context) });
      let written = 0;
      command.io.stdout.on("data", (text: Buffer) => {
        written += text.toString().split("\n").length - 1;
        if (written >= lines) abort.abort();
      });
    },
  });
}

test("followed logs are text as they come, each line with its host and its instance before it", async () => {
  const [a, b] = ["embedder-r1-aaaaaaaa-a", "embedder-r2-bbbbbbbb-b"];
  const ran = await follow({ one: [line(a, "loading"), line(a, "ready: 1 of 1")], two: [line(b, "ready")] }, ["-f"], 3);
  expect([ran.exitCode, ran.stderr]).toEqual([0, ""]);
  const lines = ran.stdout.trimEnd().split("\n");
  expect(lines.filter((text) => text.startsWith("one "))).toEqual([`one ${a} loading`, `one ${a} ready: 1 of 1`]);
  expect(lines.filter((text) => text.startsWith("two "))).toEqual([`two ${b} ready`]);
  expect(lines).toHaveLength(3);
});

test("what a service says at length stays one line behind its prefix", async () => {
  const text = `{"event":"x","reason":"${"one two ".repeat(2000)}ü 漢"}`;
  const { stdout } = await follow({ one: [line("embedder-r1-aaaaaaaa-a", text)] }, ["-f"], 1);
  expect(stdout).toBe(`one embedder-r1-aaaaaaaa-a ${text}\n`);
});
