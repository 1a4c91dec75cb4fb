import { describe, expect, test } from "vitest";
import { deploy } from "../../../cli/src/app/deploy.js";
import { dryRunDeploy, type DryRunReport } from "../../../cli/src/app/dry-run.js";
import { dryRunText } from "../../../cli/src/app/render/dry-run-text.js";
import { dryRunRollback, rollback } from "../../../cli/src/app/rollback.js";
import { onlyLooks, type RehearsedStep } from "../../../cli/src/domain/rehearsal.js";
import { ms } from "../../../cli/src/domain/units.js";
import type { Context, TargetDriver } from "../../../cli/src/ports.js";
import { Environment } from "../../fakes/environment.js";
import { runDeploy, runRollback } from "../../support/lifecycle.js";

const changing = ["ensureManager", "start", "open", "close", "stop", "suspend", "prune", "stage"];

/** `stop embedder-r1-a 600000`: what a driver was asked to change, without the lease and the specs. */
function asked(name: string, given: readonly unknown[]): string {
  const words = given.flatMap((value) => {
    if (typeof value === "string" || typeof value === "number" || value === null) return [String(value)];
    const { id, service } = value as { id?: unknown; service?: unknown };
    return [id, service].filter((word) => typeof word === "string").slice(0, 1);
  });
  return [name, ...words].join(" ");
}

/** A driver that says what it is asked to change; with `rehearsing` it does nothing of that. */
function talking(driver: TargetDriver, said: string[], rehearsing = false): TargetDriver {
  return new Proxy(driver, {
    get: (target, key) => {
      if (key === "rehearse")
        return (tell: (step: RehearsedStep) => void) => {
          tell({ kind: "note", node: "here", text: "rehearsed" });
          return talking(driver, said, true);
        };
      const member: unknown = Reflect.get(target, key);
      if (typeof member !== "function") return member;
      return (...given: unknown[]): unknown => {
        const changes = typeof key === "string" && changing.includes(key);
        if (changes) said.push(asked(key, given));
        if (changes && rehearsing) return Promise.resolve(key === "prune" ? [] : { drained: true, waitedMs: 0 });
        return Reflect.apply(member, target, given) as unknown;
      };
    },
  });
}

interface Both {
  rehearsed: readonly string[];
  done: readonly string[];
  report: DryRunReport;
}

/** A dry run of something, and then the thing itself. */
async function both(
  environment: Environment,
  dry: (ctx: Context) => Promise<DryRunReport>,
  real: (ctx: Context) => Promise<unknown>,
): Promise<Both> {
  const context = (said: string[]): Context => {
    const { ctx } = environment.cli();
    return { ...ctx, driver: talking(ctx.driver, said) };
  };
  const rehearsed: string[] = [];
  const records = [...environment.releases.records.keys()];
  const before = JSON.stringify(await environment.driver.observe());
  const report = await dry(context(rehearsed));
  expect(JSON.stringify(await environment.driver.observe())).toBe(before);
  expect([...environment.releases.records.keys()]).toEqual(records);
  const done: string[] = [];
  await real(context(done));
  return { rehearsed, done, report };
}

const deploying = (environment: Environment): Promise<Both> =>
  both(
    environment,
    (ctx) => dryRunDeploy(ctx, undefined),
    (ctx) => deploy(ctx, { service: undefined, lockWait: ms(0) }),
  );

describe("a dry run", () => {
  test("asks a driver for what a first deploy asks, in the same order", async () => {
    const { rehearsed, done } = await deploying(new Environment());
    expect(rehearsed).toEqual(done);
    expect(done.filter((line) => line.startsWith("open"))).toHaveLength(3);
  });

  test("and for what an upgrade asks", async () => {
    const environment = new Environment(["embedder", "reranker"]);
    await runDeploy(environment);
    environment.set("embedder", "SHADE", "blue");
    const { rehearsed, done } = await deploying(environment);
    expect(rehearsed).toEqual(done);
    expect(done.some((line) => /^stop embedder\S+ 600000$/.test(line))).toBe(true);
  });

  test("and for what an upgrade into a slot that is still warm asks", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    for (const shade of ["blue", "green"]) {
      environment.set("embedder", "SHADE", shade);
      if (shade === "blue") await runDeploy(environment);
    }
    const { rehearsed, done } = await deploying(environment);
    expect(rehearsed).toEqual(done);
  });

  test("and for what a rollback asks", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    environment.set("embedder", "SHADE", "blue");
    await runDeploy(environment);
    const wanted = { service: undefined, to: undefined };
    const { rehearsed, done } = await both(
      environment,
      (ctx) => dryRunRollback(ctx, wanted),
      (ctx) => rollback(ctx, { ...wanted, lockWait: ms(0) }),
    );
    expect(rehearsed).toEqual(done);
    await runRollback(environment);
  });

  test("of nothing to do asks for nothing", async () => {
    const environment = new Environment(["embedder"]);
    await runDeploy(environment);
    const { rehearsed, report } = await deploying(environment);
    expect(rehearsed).toEqual([]);
    expect(report).toMatchObject({ empty: true });
  });

  test("on a target that knows no commands is the plan alone", async () => {
    const environment = new Environment(["embedder"]);
    const report = await dryRunDeploy(environment.cli().ctx, undefined);
    expect(report.steps).toEqual([]);
    expect(dryRunText(report)).not.toContain("What would be run");
  });
});

describe("the text of a dry run", () => {
  test("has the words of a shell, arguments of scripts before their lines, and no input", async () => {
    const environment = new Environment(["embedder"]);
    const report = await dryRunDeploy(environment.cli().ctx, undefined);
    const steps: DryRunReport["steps"] = [
      { kind: "phase", phase: "start", text: "start     embedder-r1-a in slot a" },
      { kind: "command", node: "one", argv: ["docker", "pull", "name with space"], inputBytes: null },
      { kind: "command", node: "one", argv: ["sh", "-c", "set -e\necho", "gpuctl", "/a b"], inputBytes: 12 },
      { kind: "send", node: "two", local: "/here/model", path: "/there/model" },
      { kind: "note", node: "two", text: "wait      until it answers" },
    ];
    expect(dryRunText({ ...report, steps })).toContain(`What would be run

08 start  start     embedder-r1-a in slot a
  one  docker pull 'name with space'
  one  sh -c … gpuctl '/a b'   (12 bytes on stdin)
       | set -e
       | echo
  two  is sent /here/model as /there/model
  two  # wait      until it answers
`);
  });
});

describe("a command that a dry run may run", () => {
  test.each([
    ["docker image inspect --format {{.Id}} a@sha256:1", true],
    ["docker compose -f /x/compose.yaml -p p config --quiet", true],
    ["nvidia-smi --query-gpu=uuid --format=csv", true],
    ["cat /proc/meminfo", true],
    ["docker pull a", false],
    ["docker image rm a", false],
    ["docker compose -f /x/compose.yaml up --detach config", false],
    ["docker volume create v", false],
    ["nvidia-smi --persistence-mode=1", false],
    ["sh -c true", false],
    ["rm -f /x", false],
    ["systemctl restart docker", false],
  ])("%s: %s", (line, looks) => {
    expect(onlyLooks(line.split(" "))).toBe(looks);
  });
});
