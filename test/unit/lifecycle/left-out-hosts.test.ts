import { describe, expect, test } from "vitest";
import { continueDeploy } from "../../../cli/src/app/continue.js";
import { deployText, rollbackText } from "../../../cli/src/app/render/deploy-text.js";
import { rollback } from "../../../cli/src/app/rollback.js";
import { CandidateFailed, PreflightRefused } from "../../../cli/src/domain/errors.js";
import { HostsEnvironment } from "../../fakes/hosts-environment.js";
import { failureOf } from "../../support/lifecycle.js";
import {
  type Choice,
  everywhere,
  hostsOf,
  killedAt,
  names,
  noWait,
  runContinue,
  runDeploy,
  runRepair,
  served,
  statusOfHosts,
  upgrading,
} from "../../support/several-hosts.js";

describe("--hosts, while another host cannot be reached", () => {
  const others = { hosts: ["one", "two"] };
  const goBack = (environment: HostsEnvironment, choice?: Choice) =>
    rollback(environment.ctx(choice), { service: undefined, to: undefined, lockWait: noWait });

  test("puts a new release on the others, and table, record, audit and status say which host it passed by", async () => {
    const { environment, first } = await upgrading();
    environment.cut.add("three");
    const result = await runDeploy(environment, others);
    const release = result.release ?? "r0-";
    expect(result.hosts.map(({ node, before, now, state }) => [node, before, now, state])).toEqual([
      ["one", first, release, "new"],
      ["two", first, release, "new"],
      ["three", first, null, "left-out"],
    ]);
    expect(deployText(result)).toContain("Mixed: three is not part of this deploy, and may serve another release (exit code 9).");
    expect(served(environment)).toEqual({ one: [release], two: [release], three: [first] });
    expect(environment.trace.filter((line) => line.startsWith(">") && line.includes(" three"))).toEqual([]);
    expect(environment.base.releases.records.get(release)).toMatchObject({ state: "good", leftOut: ["three"] });
    expect((await environment.ctx().audit.read(5)).map(({ detail }) => detail).join()).toContain(", without three");
    const { problems, healthy } = await statusOfHosts(environment);
    expect([healthy, problems[0]]).toEqual([
      false,
      `three cannot be reached: three is off; ${release} was deployed without it, so another release may serve there`,
    ]);
  });

  test("is named by the refusal of a deploy and of a rollback", async () => {
    const { environment } = await upgrading();
    await runDeploy(environment);
    environment.base.code.wheel = "wheel-three";
    environment.cut.add("two");
    const refused = await failureOf(runDeploy(environment));
    expect(refused.nextSteps).toContain("gpuctl deploy --hosts one,three, to go on without it");
    expect((await failureOf(goBack(environment))).nextSteps).toContain("gpuctl rollback --hosts one,three, to go on without it");
  });

  test.each([
    ["deploy", (environment: HostsEnvironment): Promise<unknown> => runDeploy(environment)],
    ["repair", (environment: HostsEnvironment): Promise<unknown> => runRepair(environment)],
  ])("leaves a host that a plain %s brings level once it is back, and only then status is content", async (_, level) => {
    const { environment, first } = await upgrading();
    environment.cut.add("three");
    const release = (await runDeploy(environment, others)).release ?? "r0-";
    environment.heal();
    environment.copies = [{ host: "three", state: "behind", lacks: [release], differs: [] }];
    const behind = await statusOfHosts(environment);
    expect(behind.problems).toContain(
      `three is left behind: ${release} was deployed without it, and embedder-${first}-a answers there`,
    );
    await level(environment);
    expect(served(environment)).toEqual(everywhere(release));
    expect(environment.base.releases.records.get(release)).not.toHaveProperty("leftOut");
    expect(await statusOfHosts(environment)).toMatchObject({ healthy: true });
  });

  test("goes back on the others too, and passes by the same host", async () => {
    const { environment, first } = await upgrading();
    await runDeploy(environment);
    environment.cut.add("one");
    const result = await goBack(environment, { hosts: ["two", "three"] });
    expect(result.hosts.map(({ node, state }) => [node, state])).toEqual([
      ["one", "left-out"],
      ["two", "new"],
      ["three", "new"],
    ]);
    expect(environment.serving("two")).toEqual([first]);
    expect(rollbackText(result)).toContain("Mixed: one is not part of this rollback");
    expect(environment.base.releases.records.get(result.release)).toMatchObject({ leftOut: ["one"] });
  });

  test("refuses to leave out a host that answers beside one that does not, and names those that can take part", async () => {
    const { environment, first } = await upgrading();
    environment.cut.add("three");
    const failure = await failureOf(runDeploy(environment, { hosts: ["one"] }));
    expect(failure).toBeInstanceOf(PreflightRefused);
    expect(failure.nextSteps[0]).toBe("gpuctl deploy --hosts one,two");
    expect(environment.base.releases.records.size).toBe(1);
    expect(served(environment)).toEqual(everywhere(first));
  });

  test("refuses a change of a service that runs on the host that is left out, and nowhere else", async () => {
    const environment = new HostsEnvironment(names);
    environment.placed = { embedder: ["three"] };
    await runDeploy(environment);
    environment.base.code.wheel = "wheel-two";
    environment.cut.add("three");
    const failure = await failureOf(runDeploy(environment, others));
    expect(failure).toBeInstanceOf(PreflightRefused);
    expect(failure.message).toBe("embedder cannot be changed without the hosts that are left out");
  });

  test("takes a failed release back on the hosts that took part; the one that was left out is not held against it", async () => {
    const { environment, first } = await upgrading();
    environment.cut.add("three");
    environment.faults.set("two", { method: "open", nth: 1, kind: "fails" });
    const failure = await failureOf(runDeploy(environment, others));
    expect(failure).toBeInstanceOf(CandidateFailed);
    expect(hostsOf(failure).map(([node, , state]) => [node, state])).toEqual([
      ["one", "before"],
      ["two", "before"],
      ["three", "left-out"],
    ]);
    expect(served(environment)).toEqual(everywhere(first));
  });

  test("finishes a deploy that was cut short without a host that has gone meanwhile", async () => {
    const { environment, first } = await upgrading();
    await killedAt(environment, 2);
    environment.cut.add("three");
    expect((await failureOf(runContinue(environment))).nextSteps).toContain(
      "gpuctl deploy --continue --hosts one,two, to go on without it",
    );
    const { release, hosts } = await continueDeploy(environment.ctx(others), { lockWait: noWait });
    expect(hosts.map(({ now }) => now)).toEqual([release, release, null]);
    expect(served(environment)).toEqual({ one: [release], two: [release], three: [first] });
  });
});
