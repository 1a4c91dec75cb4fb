/** What befalls an `up` before its end, under the real engine: an API that fails after it made a server, a kill, a second `up`. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ExampleStack } from "../support/pulumi-engine/example.js";
import { must, run } from "../support/bed/shell.js";
import { repository, type JsonDocument } from "../support/sandbox.js";
import { until } from "../support/until.js";

describe("an up that does not reach its end", () => {
  let stack: ExampleStack;

  beforeAll(async () => {
    stack = await ExampleStack.start("hetzner-cpu");
  }, 1_800_000);
  afterAll(() => stack.stop());

  const spawnUp = (
    file = "pulumi",
    args: readonly string[] = ["up", "--yes", "--skip-preview", "--non-interactive"],
  ): ChildProcess => spawn(file, args, { cwd: stack.project.folder, env: stack.project.env, stdio: "ignore" });

  /** An `up` that stands still in the script of this name until it is let go. */
  async function upThatWaitsIn(script: string, start = spawnUp): Promise<{ up: ChildProcess; letGo: () => void }> {
    let letGo = (): void => undefined;
    stack.hosts.waiting.set(script, new Promise((resolve) => (letGo = resolve)));
    const up = start();
    await until(() => stack.hosts.visits.some((visit) => visit.script === script), `a visit of ${script}`, 60_000);
    return { up, letGo };
  }

  /** `gpuctl infra up` that fails: its error, and what it said on the way. */
  async function infraUp(): Promise<NonNullable<JsonDocument["error"]> & { said: string }> {
    const command = [join(repository, "cli/bin/run.js"), "infra", "up", "--stack", stack.name, "--json"];
    const { stdout, stderr } = await run("/bin/sh", ["-c", 'cd "$0" && exec node "$@"', stack.project.folder, ...command], {
      env: stack.project.env,
    });
    const { error } = JSON.parse(stdout) as JsonDocument;
    if (error === undefined) throw new Error(`it went well: ${stdout}`);
    return { ...error, said: stderr };
  }

  /** Types the next step that has these words, as it is printed, without a terminal. */
  async function typed({ nextSteps = [] }: { nextSteps?: string[] }, words: string): Promise<void> {
    const step = nextSteps.find((each) => each.includes(words)) ?? `false ${words}`;
    await must("/bin/sh", ["-c", step.slice(Math.max(0, step.indexOf("cd ")))], { env: stack.project.env });
  }

  test("a kill while things are made leaves them behind: the next up says which, and goes on once they are gone", async () => {
    const { world } = stack.hcloud;
    await stack.set("protect", "false");
    world.options.actionMs = 2_000;
    const up = spawnUp();
    await until(() => world.list("servers").length === 1, "a server that is being made", 60_000);
    up.kill("SIGKILL");
    await once(up, "exit");
    world.options.actionMs = 15;
    const locked = await infraUp();
    expect(locked.message).toBe("the stack hetzner-cpu is locked");
    await typed(locked, "pulumi cancel");
    const taken = await infraUp();
    expect(taken.message).toMatch(/the name or the key of (?:server|volume) \S+ is taken/);
    expect(taken.nextSteps?.join("\n")).toContain("gpuctl infra gc");
    expect(taken.said).toContain("does not know what became of server staging-1 (creating)");
    for (const kind of ["servers", "volumes"] as const)
      for (const { id } of world.list(kind)) await stack.hcloudCall("DELETE", `/${kind}/${id}`);
    await typed(taken, "pulumi refresh");
    await stack.project.must("up");
    expect(world.list("servers")).toHaveLength(1);
    expect(interrupted(stack.state())).toBe(0);
    await stack.project.must("destroy");
    stack.hosts.since();
    stack.done();
  });

  test("a server that was made although its creation failed is kept in the state, and finished by the next up", async () => {
    stack.hcloud.world.failingActions.push({
      command: "create_server",
      code: "action_failed",
      message: "the disk could not be prepared",
    });
    const { code, stdout, stderr } = await stack.project.operate("up");
    expect(code).not.toBe(0);
    expect(stdout + stderr).toContain("the disk could not be prepared");
    const servers = stack.hcloud.world.list("servers").map(({ id }) => id);
    expect(servers).toHaveLength(1);
    expect(stack.state()).toContain('"initErrors"');
    await stack.project.must("up");
    expect(stack.hcloud.world.list("servers").map(({ id }) => id)).toEqual(servers);
    expect(stack.state()).not.toContain('"initErrors"');
    stack.hosts.since();
    stack.done();
  });

  test("a second up while one runs is refused by its lock and disturbs nothing", async () => {
    await stack.set("revision", "2");
    const { up, letGo } = await upThatWaitsIn("prepare");
    const second = await stack.project.operate("up");
    expect(second.code).not.toBe(0);
    expect(second.stdout + second.stderr).toMatch(/the stack is currently locked by 1 lock/);
    letGo();
    expect(await once(up, "exit")).toEqual([0, null]);
    expect(stack.hosts.since().map((visit) => visit.split(" ")[0])).toEqual(["prepare", "verify"]);
    await stack.project.must("up", ["--expect-no-changes"]);
  });

  test("an up that was killed leaves a lock; after pulumi cancel the next one does what was left", async () => {
    await stack.set("revision", "3");
    const { up, letGo } = await upThatWaitsIn("prepare");
    up.kill("SIGKILL");
    await once(up, "exit");
    letGo();
    const locked = await stack.project.operate("up");
    expect(locked.code).not.toBe(0);
    expect(locked.stdout + locked.stderr).toMatch(/locked by 1 lock[^]*pulumi cancel/);
    await stack.must("cancel", "--yes", stack.name);
    stack.hosts.since();
    const { code, stdout, stderr } = await stack.project.operate("up");
    expect({ code, said: stdout + stderr }).toMatchObject({ code: 0 });
    expect(stack.hosts.since().map((visit) => visit.split(" ")[0])).toEqual(["prepare", "verify"]);
    await stack.project.must("up", ["--expect-no-changes"]);
    expect(stack.hcloud.world.list("servers")).toHaveLength(1);
    // What the engine cannot know it asks about at every up, until somebody has looked.
    expect(interrupted(stack.state())).toBe(1);
    await stack.must("refresh", "--yes", "--clear-pending-creates");
    expect(interrupted(stack.state())).toBe(0);
  });

  test("gpuctl infra up that is asked to stop lets what runs end, and leaves neither lock nor doubt", async () => {
    await stack.set("revision", "4");
    stack.done();
    const own = (): ChildProcess => spawnUp("node", [join(repository, "cli/bin/run.js"), "infra", "up", "--stack", stack.name]);
    const { up, letGo } = await upThatWaitsIn("prepare", own);
    up.kill("SIGTERM");
    await until(() => stack.isToldToStop(), "the engine has heard of it", 30_000);
    letGo();
    expect(await once(up, "exit")).toEqual([143, null]);
    expect(interrupted(stack.state())).toBe(0);
    stack.hosts.since();
    await stack.project.must("up");
    expect(stack.hosts.since().map((visit) => visit.split(" ")[0])).toEqual(["verify"]);
  });
});

/** How many operations a state says were interrupted. */
const interrupted = (state: string): number => {
  const { checkpoint } = JSON.parse(state) as { checkpoint: { latest: { pending_operations?: unknown[] } } };
  return checkpoint.latest.pending_operations?.length ?? 0;
};
