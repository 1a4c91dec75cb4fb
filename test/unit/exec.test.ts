import { describe, expect, test } from "vitest";
import Exec from "../../cli/src/commands/exec.js";
import type { Context, ExecOptions, NodeTarget } from "../../cli/src/ports.js";
import { Environment } from "../fakes/environment.js";
import { runDeploy } from "../support/lifecycle.js";
import { runCommand, type RunResult } from "../support/run-command.js";

/** What was asked of a node. */
interface Asked {
  node: string;
  id: string;
  command: readonly string[];
}

/** Nodes on which a command says its node's name on both streams and ends with a status. */
class Nodes {
  readonly asked: Asked[] = [];
  readonly #statuses: Readonly<Record<string, number>>;
  readonly #environment = new Environment(["embedder"]);

  constructor(statuses: Readonly<Record<string, number>>) {
    this.#statuses = statuses;
  }

  async deploy(): Promise<void> {
    await runDeploy(this.#environment);
  }

  context(): Context {
    const { ctx } = this.#environment.cli();
    const nodes = Object.entries(this.#statuses).map(([node, code]): NodeTarget => {
      const exec = (id: string, command: readonly string[], { onLine }: ExecOptions): Promise<number> => {
        this.asked.push({ node, id, command });
        onLine(`here is ${node}`, "stdout");
        onLine("and a complaint", "stderr");
        return Promise.resolve(code);
      };
      return { node, driver: Object.assign(Object.create(ctx.driver) as typeof ctx.driver, { exec }) };
    });
    const driver = Object.assign(Object.create(ctx.driver) as typeof ctx.driver, { nodesOf: () => nodes });
    return { ...ctx, driver };
  }

  run(...argv: readonly string[]): Promise<RunResult> {
    return runIn(this.context(), argv);
  }
}

/** The command as the bin runs it, in this context. */
function runIn(context: Context, argv: readonly string[]): Promise<RunResult> {
  return runCommand(Exec, argv, {
    prepare: (command) => void Object.assign(command, { context: () => Promise.resolve(context) }),
  });
}

async function nodes(statuses: Readonly<Record<string, number>>): Promise<Nodes> {
  const made = new Nodes(statuses);
  await made.deploy();
  return made;
}

describe("gpuctl exec", () => {
  test("gives the words after -- to the container as they are, also those that look like flags of ours", async () => {
    const one = await nodes({ one: 0 });
    const ran = await one.run("embedder", "--", "python", "--json", "-e", "two words", "--", "-q");
    const command = ["python", "--json", "-e", "two words", "--", "-q"];
    expect(one.asked).toEqual([{ node: "one", id: expect.stringMatching(/^embedder-r1\b.*-a$/) as string, command }]);
    expect(ran).toEqual({ stdout: "here is one\n", stderr: "and a complaint\n", exitCode: 0 });
  });

  test("names the node before each line of several, and ends as the first that failed", async () => {
    const ran = await (await nodes({ one: 0, two: 42, three: 7 })).run("embedder", "--", "true");
    expect(ran.stdout).toBe("one here is one\ntwo here is two\nthree here is three\n");
    expect(ran.stderr).toContain("two and a complaint\n");
    expect(ran.exitCode).toBe(42);
  });

  test("prints one document under --json, with the status of every node", async () => {
    const ran = await (await nodes({ one: 0, two: 3 })).run("embedder", "--json", "--", "true");
    expect(ran.exitCode).toBe(3);
    expect(ran.stderr).toBe("");
    const { ok, result } = JSON.parse(ran.stdout) as { ok: boolean; result: { runs: unknown; lines: unknown[] } };
    expect(ok).toBe(true);
    expect(result.runs).toEqual([
      { node: "one", code: 0 },
      { node: "two", code: 3 },
    ]);
    expect(result.lines).toContainEqual({ node: "two", stream: "stderr", text: "and a complaint" });
  });

  test("runs on the nodes that were named and refuses others", async () => {
    const both = await nodes({ one: 0, two: 0 });
    expect((await both.run("embedder", "--hosts", "two", "--", "true")).stdout).toBe("here is two\n");
    const refused = await both.run("embedder", "--hosts", "two,three", "--", "true");
    expect(refused.exitCode).toBe(2);
    expect(refused.stderr).toContain("embedder does not run on three");
    expect(both.asked.map(({ node }) => node)).toEqual(["two"]);
  });

  test.each([
    [["embedder"], 2, "there is no command to run"],
    [["embedder", "--"], 2, "there is no command to run"],
    [["embedder", "python", "--", "-V"], 2, "python"],
    [["reranker", "--", "true"], 2, "there is no service reranker"],
    [["embedder", "--release", "r9", "--", "true"], 2, "there is no release r9"],
  ])("refuses %j", async (argv, exitCode, said) => {
    const one = await nodes({ one: 0 });
    const ran = await one.run(...argv);
    expect(ran.stderr).toContain(said);
    expect(ran.exitCode).toBe(exitCode);
    expect(one.asked).toEqual([]);
  });

  test("says that processes of this machine have no container", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    const ran = await runIn(environment.cli().ctx, ["embedder", "--", "true"]);
    expect(ran.exitCode).toBe(3);
    expect(ran.stderr).toContain("no containers to run a command in");
  });

  test("says that nothing was deployed yet", async () => {
    const ran = await new Nodes({ one: 0 }).run("embedder", "--", "true");
    expect(ran.exitCode).toBe(1);
    expect(ran.stderr).toContain("nothing runs");
  });
});
