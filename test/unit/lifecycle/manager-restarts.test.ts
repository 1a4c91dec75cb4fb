import { describe, expect, test } from "vitest";
import { plan } from "../../../cli/src/app/plan.js";
import { planText } from "../../../cli/src/app/render/plan-text.js";
import { status } from "../../../cli/src/app/status.js";
import { Environment } from "../../fakes/environment.js";
import type { HostsEnvironment } from "../../fakes/hosts-environment.js";
import { runDeploy as runFirst } from "../../support/lifecycle.js";
import { names, runDeploy, served, upgrading } from "../../support/several-hosts.js";

/** An upgrade that also changes what the proxies of all hosts are made from. */
async function withOtherPorts(hosts: readonly string[] = names): Promise<HostsEnvironment> {
  const { environment } = await upgrading();
  for (const name of hosts) environment.machine(name).outOfDate = [`proxy of ${name}`];
  environment.trace.length = 0;
  return environment;
}

test("a plan says which proxies restart, first among what is done and beside the gap that it expects", async () => {
  const environment = await withOtherPorts(["two"]);
  const text = planText(await plan(environment.ctx(), { service: undefined }));
  const said = "the proxy of two restarts: connections are refused for about a second";
  expect(text).toContain(`Put right first\n  keeper    make it anew (${said})`);
  expect(text).toMatch(new RegExp(`expected gap 0 s, but first ${said}`));
  expect((await status(environment.ctx())).drift).toEqual([`keeper    make it anew (${said})`]);
});

test("hosts whose proxies restart follow one another, before anything else is done on any", async () => {
  const environment = await withOtherPorts();
  const { release } = await runDeploy(environment);
  const done = environment.trace.filter((line) => /ensureManager|start/.test(line)).map((line) => line.split(" ").slice(0, 3));
  expect(done.slice(0, 6).map((words) => words.join(" "))).toEqual(
    names.flatMap((name) => [`> ensureManager ${name}`, `< ensureManager ${name}`]),
  );
  expect(done[6]?.[1]).toBe("ensureManager");
  expect(served(environment)).toEqual(Object.fromEntries(names.map((name) => [name, [release]])));
});

test("hosts that nobody notices are told together", async () => {
  const environment = await withOtherPorts([]);
  await runDeploy(environment);
  const told = environment.trace.filter((line) => line.includes("ensureManager"));
  expect(told.slice(0, 3)).toEqual(names.map((name) => `> ensureManager ${name}`));
});

test("a proxy that does not come back ends the deploy before the next host loses its own", async () => {
  const environment = await withOtherPorts();
  environment.faults.set("one", { method: "ensureManager", nth: 1, kind: "fails" });
  await expect(runDeploy(environment)).rejects.toThrow("ensureManager went wrong");
  expect(environment.trace.filter((line) => line.includes("ensureManager"))).toEqual([]);
  expect(environment.machine("two").outOfDate).toEqual(["proxy of two"]);
});

describe("a release with other limits for requests", () => {
  const told = "the proxy takes over other limits for requests";

  /** What the plan of a further release with these settings of the embedder says besides its operations. */
  async function notes(environment: Environment, settings: Readonly<Record<string, string>>): Promise<readonly string[]> {
    const env = Object.entries({ GPUCTL_THREADS: String(environment.releases.records.size + 2), ...settings });
    for (const [name, value] of env) environment.set("embedder", name, value);
    const { ctx } = environment.cli();
    return (await plan({ ...ctx, config: { ...ctx.config, target: "compose" } }, { service: "embedder" })).notes;
  }

  test("is let through by a proxy that allows more than all of them, and the plan has nothing to say", async () => {
    const environment = new Environment(["embedder"]);
    await runFirst(environment);
    const wider = { GPUCTL_DEADLINE_MS: "300000", GPUCTL_MAX_BODY_BYTES: String(32 * 2 ** 20) };
    expect(await notes(environment, wider)).toEqual([]);
  });

  test("is said where it needs more than that, and once more when the last one that did leaves its place", async () => {
    const environment = new Environment(["embedder"]);
    await runFirst(environment);
    expect((await notes(environment, { GPUCTL_DEADLINE_MS: "600000" }))[0]).toContain(`embedder: ${told}`);
    await runFirst(environment);
    expect(await notes(environment, { GPUCTL_DEADLINE_MS: "30000" })).toEqual([]);
    await runFirst(environment);
    expect((await notes(environment, {}))[0]).toContain(told);
  });
});
