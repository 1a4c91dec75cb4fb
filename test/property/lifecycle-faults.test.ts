import { describe, expect, test } from "vitest";
import { status } from "../../cli/src/app/status.js";
import { GpuctlError } from "../../cli/src/domain/errors.js";
import type { Environment } from "../fakes/environment.js";
import { mischiefs, type Mischief, type MischiefKind } from "../fakes/interference.js";
import { current, expectAtRest, expectExactlyOneServes, instancesOf, runDeploy, runRepair } from "../support/lifecycle.js";
import { scenarios, type Scenario } from "../support/scenarios.js";

const changesSomething =
  /^(driver\.(start|open|close|stop|ensureManager|prune|stage)|releases\.(create|update|remove)|audit|lease)|\/private\/(writer|generations)/;

/**
 * A store's call that never returns is a broken disk, which nothing in a process survives; targets do hang.
 * A question has no effect that could come before its failure.
 */
const possible = (kind: MischiefKind, call: string): boolean =>
  (!kind.startsWith("hangs") || call.startsWith("driver.")) && (!kind.endsWith("-late") || changesSomething.test(call));

/** Runs a scenario's command with one fault. A killed command never ends, so it is left when nothing moves any more. */
async function actUnder(scenario: Scenario, environment: Environment, mischief: Mischief): Promise<unknown> {
  const cli = environment.cli(mischief);
  const outcome = scenario.act(cli).then(
    () => "succeeded",
    (thrown: unknown) => thrown,
  );
  const killed = (async () => {
    for (let quiet = 0; quiet < 3; quiet = cli.interference.alive ? 0 : quiet + 1)
      await new Promise((resolve) => setImmediate(resolve));
    return "killed";
  })();
  const ended = await Promise.race([outcome, killed]);
  cli.interference.kill();
  return ended;
}

async function checkOne(scenario: Scenario, mischief: Mischief): Promise<void> {
  const environment = await scenario.prepare();
  const before = [...new Set(environment.machine.serving().map((id) => id.split("-")[0]))];
  const outcome = await actUnder(scenario, environment, mischief);
  const answering = new Set(environment.machine.serving().map((id) => id.split("-")[0]));
  if (scenario.serves) expect([...answering].sort(), "every service answers all the time").toEqual(before);
  if (outcome !== "killed") checkEnded(scenario, environment, outcome);
  await status(environment.cli().ctx);
  if (mischief.at % 2 === 0) {
    await runRepair(environment);
    expectExactlyOneServes(environment);
  }
  await runDeploy(environment);
  await expectAtRest(environment);
}

/** What holds when the command itself had the last word. */
function checkEnded(scenario: Scenario, environment: Environment, outcome: unknown): void {
  if (outcome !== "succeeded" && !(outcome instanceof GpuctlError)) throw outcome;
  const said = outcome instanceof GpuctlError ? outcome.exit : "ok";
  expect(["ok", "failed", "targetUnreachable", "preflightRefused", "candidateFailed", "interrupted"]).toContain(said);
  if (scenario.serves) expectExactlyOneServes(environment);
  else for (const id of environment.machine.serving()) expect(instancesOf(current(environment))).toContain(id);
}

describe.each(scenarios)("$name", (scenario) => {
  test.each(mischiefs)(
    "one port call that goes wrong (%s), wherever it is: one release serves and the next deploy succeeds",
    async (kind) => {
      const rehearsal = await scenario.prepare();
      const cli = rehearsal.cli();
      await scenario.act(cli);
      const calls = cli.interference.calls;
      expect(calls.length).toBeGreaterThan(20);
      for (const [at, call] of calls.entries()) {
        if (!possible(kind, call)) continue;
        await checkOne(scenario, { at, kind }).catch((thrown: unknown) => {
          throw new Error(
            `${kind} at call ${at}, ${call} (after ${calls.slice(Math.max(0, at - 3), at).join(", ")}): ${String(thrown)}`,
            { cause: thrown },
          );
        });
      }
    },
  );
});
