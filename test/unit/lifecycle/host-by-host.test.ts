/** Several hosts, none of which has room for two instances: the old one stops before the new one starts. */
import { describe, expect, test } from "vitest";
import { continueDeploy } from "../../../cli/src/app/continue.js";
import { plan } from "../../../cli/src/app/plan.js";
import { repair } from "../../../cli/src/app/repair.js";
import { CandidateFailed } from "../../../cli/src/domain/errors.js";
import type { ServiceName } from "../../../cli/src/domain/names.js";
import { HostsEnvironment } from "../../fakes/hosts-environment.js";
import { until } from "../../support/until.js";
import { failureOf } from "../../support/lifecycle.js";
import { everywhere, names, noWait, runDeploy, served } from "../../support/several-hosts.js";

/** Hosts that serve a first release, have no room for another beside it, and a project file that asks for one. */
async function crowded(services?: readonly ServiceName[]): Promise<{ environment: HostsEnvironment; first: string }> {
  const environment = new HostsEnvironment(names, services);
  const { release } = await runDeploy(environment);
  for (const name of names) environment.machine(name).memoryMiB = 1400;
  environment.base.code.wheel = "wheel-two";
  environment.trace.length = 0;
  return { environment, first: release ?? "" };
}

/** What was done to hosts, in order: `suspend one`, `start one`, ... */
const done = ({ trace }: HostsEnvironment, ...methods: string[]): readonly string[] =>
  trace
    .filter((line) => line.startsWith("> "))
    .map((line) => line.split(" ").slice(1, 3).join(" "))
    .filter((line) => methods.includes(line.split(" ")[0] ?? ""));

/** Counts at every call how many hosts answer at least. */
function fewestServing(environment: HostsEnvironment): () => number {
  let fewest = names.length;
  const push = environment.trace.push.bind(environment.trace);
  environment.trace.push = (...lines) => {
    fewest = Math.min(fewest, names.filter((name) => environment.serving(name).length > 0).length);
    return push(...lines);
  };
  return () => fewest;
}

describe("a deploy that stops the old instances first", () => {
  test("goes host by host: the next one is stopped when the one before answers again", async () => {
    const { environment } = await crowded();
    const fewest = fewestServing(environment);
    const { release } = await runDeploy(environment);
    expect(done(environment, "suspend", "start", "open")).toEqual(
      names.flatMap((name) => [`suspend ${name}`, `start ${name}`, `open ${name}`]),
    );
    expect(served(environment)).toEqual(everywhere(release));
    expect(fewest()).toBe(2);
    const record = [...environment.base.releases.records.values()].at(-1);
    expect(record).toMatchObject({ state: "good", stopFirst: ["embedder"] });
    expect(record?.gates.filter(({ gate }) => gate === "device-proof").map(({ node }) => node)).toEqual(names);
  });

  test("takes as many hosts at once as it was told", async () => {
    const { environment } = await crowded();
    const fewest = fewestServing(environment);
    await runDeploy(environment, { parallel: 2 });
    expect(done(environment, "suspend", "open")).toEqual([
      "suspend one",
      "suspend two",
      "open one",
      "open two",
      "suspend three",
      "open three",
    ]);
    expect(fewest()).toBe(1);
  });

  test("and whose candidate fails on the first host brings that one back, and never touches the others", async () => {
    const { environment, first } = await crowded();
    environment.faults.set("one", { method: "start", nth: 1, kind: "fails" });
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toBeInstanceOf(CandidateFailed);
    expect(served(environment)).toEqual(everywhere(first));
    expect(environment.trace.filter((line) => / (suspend|start|open|stop) (two|three)/.test(line))).toEqual([]);
  });

  test("and fails on the second host brings that one back first, then the first, with room made before", async () => {
    const { environment, first } = await crowded();
    const fewest = fewestServing(environment);
    environment.faults.set("two", { method: "open", nth: 1, kind: "fails" });
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toBeInstanceOf(CandidateFailed);
    expect(served(environment)).toEqual(everywhere(first));
    expect(done(environment, "stop", "start", "open")).toEqual([
      ...["start one", "open one", "start two"],
      ...["stop two", "start two", "open two"],
      ...["stop one", "start one", "open one"],
    ]);
    expect(fewest()).toBe(2);
  });

  test("goes no further when what serves on the first host is not in order there", async () => {
    const { environment, first } = await crowded();
    environment.faults.set("one", { method: "health", nth: 1, kind: "fails" });
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toBeInstanceOf(CandidateFailed);
    expect(done(environment, "suspend")).toEqual(["suspend one"]);
    expect(served(environment)).toEqual(everywhere(first));
  });

  test.each(["deploy --continue", "repair"])(
    "that is killed between two hosts is ended by %s with room made on each host",
    async (way) => {
      const { environment, first } = await crowded();
      environment.killsAtOpen = 2;
      void runDeploy(environment);
      await until(() => environment.base.leases.holder?.alive() === false, "the deploy was killed");
      environment.killsAtOpen = null;
      const twoHeld = environment.machine("two").runningIds().length;
      environment.trace.length = 0;
      const release = [...environment.base.releases.records.keys()].at(-1) ?? null;
      if (way === "repair") await repair(environment.ctx(), { lockWait: noWait });
      else await continueDeploy(environment.ctx(), { lockWait: noWait });
      expect(twoHeld).toBeGreaterThan(0);
      expect(served(environment)).toEqual(everywhere(way === "repair" ? first : release));
      if (way === "repair") expect(done(environment, "stop", "start")[0]).toMatch(/^stop/);
      else expect(done(environment, "suspend", "open").at(-2)).toBe("suspend three");
    },
  );

  test("and passed by a host makes room there too when that one is brought level", async () => {
    const { environment } = await crowded();
    environment.cut.add("three");
    const { release } = await runDeploy(environment, { hosts: ["one", "two"] });
    environment.heal();
    environment.copies = [{ host: "three", state: "behind", lacks: [release ?? "r0-"], differs: [] }];
    environment.trace.length = 0;
    await repair(environment.ctx(), { lockWait: noWait });
    expect(done(environment, "stop", "start").filter((line) => line.endsWith(" three"))).toEqual(["stop three", "start three"]);
    expect(environment.machine("three").runningIds()).toHaveLength(1);
    expect(served(environment)).toEqual(everywhere(release));
  });

  test("is announced by the plan: host by host, or that nothing answers where a service has one host", async () => {
    const { environment } = await crowded();
    const summary = async (): Promise<string | undefined> =>
      (await plan(environment.ctx(), { service: undefined })).strategy?.summary;
    expect(await summary()).toMatch(/^stop-first .*; host by host: one, then two, then three, and the others answer meanwhile$/);
    environment.placed = { embedder: ["two"] };
    expect(await summary()).toMatch(/; embedder answers nowhere meanwhile: two is its only host$/);
  });
});
