import { describe, expect, test } from "vitest";
import { deploy } from "../../../cli/src/app/deploy.js";
import { rollback } from "../../../cli/src/app/rollback.js";
import { status } from "../../../cli/src/app/status.js";
import { CandidateFailed, PreflightRefused, TargetMixed, TargetUnreachable, UsageError } from "../../../cli/src/domain/errors.js";
import type { ProgressEvent } from "../../../cli/src/ports.js";
import { HostsEnvironment } from "../../fakes/hosts-environment.js";
import { failureOf } from "../../support/lifecycle.js";
import {
  everywhere,
  hostsOf,
  killedAt,
  names,
  noWait,
  opened,
  runContinue,
  runDeploy,
  runRepair,
  served,
  upgrading,
} from "../../support/several-hosts.js";

describe("a deploy over three hosts", () => {
  test("moves traffic host by host in the order of the project file, and says what serves where", async () => {
    const { environment, first } = await upgrading();
    const { release, hosts } = await runDeploy(environment);
    expect(opened(environment)).toEqual(names);
    expect(served(environment)).toEqual(everywhere(release ?? ""));
    expect(hosts).toEqual(names.map((node) => ({ node, before: first, now: release, state: "new", detail: "serves" })));
  });

  test("starts on every host before traffic moves on any", async () => {
    const { environment } = await upgrading();
    await runDeploy(environment);
    const [firstOpen, lastStart] = [
      environment.trace.findIndex((line) => line.startsWith("> open")),
      environment.trace.findLastIndex((line) => line.startsWith("< start")),
    ];
    expect(lastStart).toBeLessThan(firstOpen);
  });

  test("moves as many at once as it was told", async () => {
    const { environment } = await upgrading();
    await runDeploy(environment, { parallel: 2 });
    const lines = environment.trace
      .filter((line) => line.includes(" open "))
      .map((line) => line.split(" ").slice(0, 3).join(" "));
    expect(lines).toEqual(["> open one", "> open two", "< open one", "< open two", "> open three", "< open three"]);
  });

  test("takes all back when the second fails, names it, and never touches the third", async () => {
    const { environment, first } = await upgrading();
    environment.faults.set("two", { method: "open", nth: 1, kind: "fails" });
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toBeInstanceOf(CandidateFailed);
    expect(failure.because).toBe("two: open went wrong: a test made it so");
    expect(failure.nextSteps[0]).toBe("gpuctl logs --hosts two");
    expect(hostsOf(failure)).toEqual(names.map((node) => [node, first, "before"]));
    expect(failure.lines).toEqual([
      "host   before       now          state",
      `one    ${first}  ${first}  serves again, switched back`,
      `two    ${first}  ${first}  serves again, switched back`,
      `three  ${first}  ${first}  serves, as before`,
    ]);
    expect(opened(environment)).toEqual(["one"]);
    expect(served(environment)).toEqual(everywhere(first));
  });

  test("goes no further when what serves on the first host is not in order there", async () => {
    const { environment, first } = await upgrading();
    environment.faults.set("one", { method: "health", nth: 1, kind: "fails" });
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toBeInstanceOf(CandidateFailed);
    expect(failure.because).toBe("one: health went wrong: a test made it so");
    expect(opened(environment)).toEqual(["one"]);
    expect(served(environment)).toEqual(everywhere(first));
  });

  test("that loses a host before its traffic moved takes the others back, and says how to bring that one back", async () => {
    const { environment, first } = await upgrading();
    environment.faults.set("three", { method: "start", nth: 1, kind: "lost" });
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toBeInstanceOf(CandidateFailed);
    expect(failure.nextSteps[0]).toBe("gpuctl repair --hosts three, when it is back");
    expect(hostsOf(failure)).toEqual([
      ["one", first, "before"],
      ["two", first, "before"],
      ["three", null, "left"],
    ]);
    expect(served(environment)).toEqual(everywhere(first));
    environment.heal();
    await runRepair(environment, { hosts: ["three"] });
    expect(await status(environment.ctx())).toMatchObject({ healthy: true });
  });

  test("that loses a host whose traffic had moved is mixed: the others are taken back, and both ways on are named", async () => {
    const { environment, first } = await upgrading();
    environment.faults.set("two", { method: "open", nth: 1, kind: "lost-late" });
    const failure = await failureOf(runDeploy(environment));
    const release = String(failure.data?.["release"]);
    expect(failure).toBeInstanceOf(TargetMixed);
    expect(failure.message).toBe(`${release} failed and two could not be taken back to ${first}`);
    expect(failure.nextSteps).toEqual([
      "gpuctl repair --hosts two, once it is in order again",
      `gpuctl deploy --continue, to finish ${release} instead`,
      "gpuctl status",
    ]);
    expect(hostsOf(failure)).toEqual([
      ["one", first, "before"],
      ["two", null, "unknown"],
      ["three", first, "before"],
    ]);
    expect(environment.serving("one")).toEqual([first]);
    environment.heal();
    await runRepair(environment, { hosts: ["two"] });
    expect(served(environment)).toEqual(everywhere(first));
  });

  test("does not keep hosts from coming back because one of them cannot be mended", async () => {
    const { environment, first } = await upgrading();
    environment.base.service("embedder").env = { FAULT: "errors-when-open" };
    environment.faults.set("one", { method: "stop", nth: 1, kind: "broken" });
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toBeInstanceOf(TargetMixed);
    expect(hostsOf(failure).map(([node, , state]) => [node, state])).toEqual([
      ["one", "unknown"],
      ["two", "before"],
      ["three", "before"],
    ]);
    expect([environment.serving("two"), environment.serving("three")]).toEqual([[first], [first]]);
  });

  test("does not begin while a host cannot be reached", async () => {
    const { environment, first } = await upgrading();
    environment.cut.add("two");
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toBeInstanceOf(TargetUnreachable);
    expect(failure.message).toBe("two cannot be reached, and nothing was changed");
    expect(failure.nextSteps[1]).toBe("gpuctl repair --hosts one,three, to put right the others meanwhile");
    expect(environment.base.releases.records.size).toBe(1);
    expect(served(environment)).toEqual(everywhere(first));
    expect(await failureOf(rollback(environment.ctx(), { service: undefined, to: first, lockWait: noWait }))).toBeInstanceOf(
      TargetUnreachable,
    );
  });
});

describe("--continue", () => {
  test("finishes a deploy that was killed between two hosts, on those that lack its release", async () => {
    const { environment, first } = await upgrading();
    await killedAt(environment, 2);
    const before = served(environment);
    const { release, hosts } = await runContinue(environment);
    expect(before["one"]).toHaveLength(2);
    expect(release).not.toBe(first);
    expect(served(environment)).toEqual(everywhere(release ?? ""));
    expect(hosts.map(({ now }) => now)).toEqual(names.map(() => release));
    expect(environment.base.releases.records.get(release ?? "r0-")).toMatchObject({ state: "good" });
    expect(environment.base.releases.records.size).toBe(2);
  });

  test("finishes one that was left mixed, once its host is back", async () => {
    const { environment } = await upgrading();
    environment.faults.set("two", { method: "open", nth: 1, kind: "lost-late" });
    const { data } = await failureOf(runDeploy(environment));
    environment.heal();
    const { release } = await runContinue(environment);
    expect(release).toBe(data?.["release"]);
    expect(served(environment)).toEqual(everywhere(release ?? ""));
  });

  test("proves the release on hosts that run it without having shown anything", async () => {
    const { environment } = await upgrading();
    await killedAt(environment, 2);
    const { gates } = await runContinue(environment);
    expect(gates.filter(({ gate }) => gate === "device-proof").map(({ node }) => node)).toEqual(names);
  });

  test("takes the release back everywhere when it fails after all", async () => {
    const { environment, first } = await upgrading();
    await killedAt(environment, 3);
    environment.faults.set("three", { method: "open", nth: 1, kind: "broken" });
    const failure = await failureOf(runContinue(environment));
    expect(failure).toBeInstanceOf(CandidateFailed);
    expect(served(environment)).toEqual(everywhere(first));
  });

  test("is refused where nothing was cut short, and where all was taken back", async () => {
    const { environment } = await upgrading();
    expect(await failureOf(runContinue(environment))).toBeInstanceOf(UsageError);
    environment.faults.set("two", { method: "open", nth: 1, kind: "fails" });
    await failureOf(runDeploy(environment));
    const failure = await failureOf(runContinue(environment));
    expect(failure.message).toBe("there is no deploy to continue");
  });
});

describe("--hosts", () => {
  test("never puts another release on a part of the hosts", async () => {
    const { environment, first } = await upgrading();
    const failure = await failureOf(runDeploy(environment, { hosts: ["two"] }));
    expect(failure).toBeInstanceOf(PreflightRefused);
    expect(failure.message).toBe("this would put another release on two alone");
    expect(served(environment)).toEqual(everywhere(first));
  });

  test("brings these hosts to the current release, and touches no other, which may be gone", async () => {
    const environment = new HostsEnvironment(names);
    const { release } = await runDeploy(environment);
    for (const name of ["one", "two"]) environment.machine(name).kill(environment.machine(name).serving()[0] ?? "");
    environment.cut.add("three");
    environment.trace.length = 0;
    await runDeploy(environment, { hosts: ["two"] });
    expect(environment.serving("two")).toEqual([release]);
    expect(environment.serving("one")).toEqual([]);
    expect(environment.trace.filter((line) => line.startsWith(">") && !line.includes(" two"))).toEqual([]);
  });

  test("with all hosts is as without it, and an unknown one is refused", async () => {
    const { environment } = await upgrading();
    expect((await runDeploy(environment, { hosts: ["three", "two", "one"] })).outcome).toBe("deployed");
    expect(() => environment.ctx({ hosts: ["four"] })).toThrow("there is no node four");
  });
});

describe("hosts that are not as they were", () => {
  test("a host that was installed again is told by status, and a deploy of nothing new brings it back", async () => {
    const environment = new HostsEnvironment(names);
    const { release } = await runDeploy(environment);
    const three = environment.machine("three");
    three.instances.clear();
    three.wheels.clear();
    three.managerRuns = false;
    environment.copies = [{ host: "three", state: "blank" }];
    expect((await status(environment.ctx())).drift[0]).toBe(
      "records   to three (it keeps none: it is new or was installed again)",
    );
    const result = await runDeploy(environment);
    expect(result).toMatchObject({ outcome: "mended", release });
    expect(served(environment)).toEqual(everywhere(release ?? ""));
    expect((await status(environment.ctx())).healthy).toBe(true);
  });

  test("a service is ended on a host that it is not to run on any more, and started on one that is new to it", async () => {
    const environment = new HostsEnvironment(names);
    environment.placed = { embedder: ["one", "two"] };
    const { release } = await runDeploy(environment);
    environment.placed = { embedder: ["two", "three"] };
    const result = await runDeploy(environment);
    expect(result).toMatchObject({ outcome: "mended", release });
    expect(served(environment)).toEqual({ one: [], two: [release], three: [release] });
    expect(environment.machine("one").runningIds()).toEqual([]);
  });

  test("a service that is ended on a host with requests inside is told with that host", async () => {
    const environment = new HostsEnvironment(names);
    environment.placed = { embedder: ["one", "two"] };
    await runDeploy(environment);
    environment.placed = { embedder: ["two"] };
    environment.drained = false;
    const said: string[] = [];
    const emit = (event: ProgressEvent): void => {
      if (event.kind === "warning") said.push(event.text);
    };
    await deploy({ ...environment.ctx(), progress: { emit } }, { service: undefined, lockWait: noWait });
    expect(said).toEqual([expect.stringMatching(/^one: embedder-\S+ still had requests after \d+ m?s of draining$/)]);
  });
});
