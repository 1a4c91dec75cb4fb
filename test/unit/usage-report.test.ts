import { expect, it } from "vitest";
import Bench from "../../cli/src/commands/bench.js";
import Deploy from "../../cli/src/commands/deploy.js";
import Diff from "../../cli/src/commands/diff.js";
import Init from "../../cli/src/commands/init.js";
import Query from "../../cli/src/commands/query.js";
import { runCommand } from "../support/run-command.js";

const missing = "the command needs it; nothing was run";

/** What, why, and what to type next, without the parser's own remarks. */
it.each([
  ["deploy --dry-rum", Deploy, "there is no flag --dry-rum", "the nearest one is --dry-run; nothing was run"],
  ["deploy --zzzzzzzz=1", Deploy, "there is no flag --zzzzzzzz", "this command does not have it; nothing was run"],
  ["query", Query, "TEXT is missing", missing],
  ["diff r1", Diff, "TO is missing", missing],
  ["diff", Diff, "FROM and TO are missing", "the command needs them; nothing was run"],
  ["query x --top 0", Query, "--top cannot be 0", "it is an integer greater than or equal to 1"],
  ["query x --top many", Query, "--top cannot be many", "it is an integer"],
  ["bench frob", Bench, "there is no frob", "it is one of embed, rerank, index"],
  ["init --target foo", Init, "--target cannot be foo", "it is one of process, compose, swarm, kubernetes"],
])("gpuctl %s", async (line, command, message, because) => {
  const { stderr, exitCode } = await runCommand(command, line.split(" ").slice(1));
  expect(exitCode).toBe(2);
  expect(stderr).toBe(`Error: ${message}\n  Because ${because}.\nNext:\n  gpuctl ${command.name.toLowerCase()} --help\n`);
});
