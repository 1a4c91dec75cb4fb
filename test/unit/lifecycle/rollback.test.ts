import { describe, expect, test } from "vitest";
import { releases } from "../../../cli/src/app/releases.js";
import { PreflightRefused, UsageError } from "../../../cli/src/domain/errors.js";
import type { ServiceSpec } from "../../../cli/src/domain/release.js";
import { Environment } from "../../fakes/environment.js";
import { current, expectExactlyOneServes, failureOf, runDeploy, runRollback } from "../../support/lifecycle.js";

const specOf = (environment: Environment): ServiceSpec => {
  const spec = current(environment)?.services.embedder?.spec;
  if (spec === undefined) throw new Error("no embedder");
  return spec;
};

async function twice(change: (environment: Environment) => void): Promise<Environment> {
  const environment = new Environment();
  environment.service("embedder").secrets = { API_KEYS: { env: "KEYS" } };
  environment.secrets.values.set("KEYS", "one");
  await runDeploy(environment);
  change(environment);
  await runDeploy(environment);
  return environment;
}

/** Keeps nothing warm, so that a rollback must start what it returns to. */
const coolDown = async (environment: Environment): Promise<void> => {
  environment.clock.pass(700_000);
  await environment.driver.observe();
};

const changes: readonly (readonly [string, (environment: Environment) => void])[] = [
  [
    "code",
    (environment) => {
      environment.code.wheel = "wheel-two";
    },
  ],
  [
    "Python environment",
    (environment) => {
      environment.code.lock = "lock-two";
    },
  ],
  [
    "model",
    (environment) => {
      environment.service("embedder").model = "large";
      environment.service("reranker").model = "large";
    },
  ],
  [
    "settings",
    (environment) => {
      environment.set("embedder", "LOG_FORMAT", "json");
    },
  ],
  [
    "options",
    (environment) => {
      environment.set("embedder", "GPUCTL_MAX_BATCH_TOKENS", "4096");
    },
  ],
  [
    "secrets",
    (environment) => {
      environment.secrets.values.set("KEYS", "two");
    },
  ],
  [
    "device",
    (environment) => {
      environment.service("embedder").device = { prefer: "cpu", require: "cpu", proof: "self" };
    },
  ],
  [
    "port",
    (environment) => {
      environment.service("embedder").port = 9001;
    },
  ],
];

describe("a rollback", () => {
  test.each(changes)("brings back the %s, warm", async (_what, change) => {
    const environment = await twice(change);
    const [first] = [...environment.releases.records.values()];
    expect(specOf(environment)).not.toEqual(first?.services.embedder?.spec);
    const result = await runRollback(environment);
    expect(result).toMatchObject({ path: "warm", rollbackOf: first?.id });
    expect(current(environment)).toMatchObject({ number: 3, rollbackOf: first?.id, services: first?.services ?? {} });
    expectExactlyOneServes(environment);
  });

  test.each(changes)("brings back the %s, cached, with the secrets of then", async (_what, change) => {
    const environment = await twice(change);
    const [first] = [...environment.releases.records.values()];
    await coolDown(environment);
    expect(await runRollback(environment)).toMatchObject({ path: "cached" });
    expect(specOf(environment)).toEqual(first?.services.embedder?.spec);
    expectExactlyOneServes(environment);
    const serving = environment.machine.serving().find((id) => id.startsWith("embedder"));
    expect(environment.machine.instances.get(serving ?? "")?.secrets).toEqual({ API_KEYS: "one" });
    expect(environment.releases.kept.get(current(environment)?.id ?? "r0-")).toMatchObject({ embedder: { API_KEYS: "one" } });
  });

  test("of one service leaves the others", async () => {
    const environment = await twice((changed) => {
      changed.code.wheel = "wheel-two";
    });
    await runRollback(environment, { service: "reranker" });
    const services = current(environment)?.services;
    expect(services?.reranker?.spec.code.wheel).toBe("wheel-one");
    expect(services?.embedder?.spec.code.wheel).toBe("wheel-two");
    expectExactlyOneServes(environment);
  });

  test("of the embedder alone is refused when the index would search other vectors", async () => {
    const environment = await twice((changed) => {
      changed.service("embedder").model = "large";
    });
    const failure = await failureOf(runRollback(environment, { service: "embedder" }));
    expect(failure).toBeInstanceOf(PreflightRefused);
    expect(failure.because).toMatch(/small@1.*large@1/);
    expect(failure.nextSteps[0]).toMatch(/gpuctl rollback --to r1-/);
  });

  test.each(["1", "r1"])("goes to the release it is told (%s)", async (to) => {
    const environment = await twice((changed) => {
      changed.set("embedder", "A", "1");
    });
    environment.set("embedder", "A", "2");
    await runDeploy(environment);
    await runRollback(environment, { to });
    expect(specOf(environment).env["A"]).toBeUndefined();
    expectExactlyOneServes(environment);
  });

  test("twice toggles between the last two", async () => {
    const environment = await twice((changed) => {
      changed.set("embedder", "A", "1");
    });
    await runRollback(environment);
    await runRollback(environment);
    expect(specOf(environment).env["A"]).toBe("1");
    expectExactlyOneServes(environment);
  });

  test("to a release whose files are gone is refused with what is missing and how to fetch it", async () => {
    const environment = await twice((changed) => {
      changed.service("embedder").model = "large";
      changed.service("reranker").model = "large";
    });
    await coolDown(environment);
    environment.machine.missingModels.add("small");
    environment.models.models.delete("small");
    const failure = await failureOf(runRollback(environment));
    expect(failure).toBeInstanceOf(PreflightRefused);
    expect(failure.because).toMatch(/embedder: model models\/small@1/);
    expect(failure.nextSteps).toContain("gpuctl models fetch");
    expectExactlyOneServes(environment);
  });

  test("on a machine without the model takes what it must answer from the target that keeps it", async () => {
    const environment = await twice((changed) => {
      changed.set("embedder", "A", "1");
    });
    const probes = environment.models.models.get("small")?.probes ?? null;
    environment.models.models.delete("small");
    expect((await failureOf(runRollback(environment))).because).toMatch(/not in the model store/);
    environment.driver.probes = () => Promise.resolve(probes);
    expect((await runRollback(environment)).path).toBe("warm");
    expectExactlyOneServes(environment);
  });

  test("to a release whose code is gone fetches it first, where it can be had", async () => {
    const environment = await twice((changed) => {
      changed.code.wheel = "wheel-two";
    });
    await coolDown(environment);
    environment.machine.wheels.delete("wheel-one");
    const { path } = await runRollback(environment);
    expect(path).toBe("cold");
    expectExactlyOneServes(environment);
    expect(specOf(environment).code.wheel).toBe("wheel-one");
  });

  test.each([
    ["without any release", new Environment(), undefined, /nothing to roll back/],
    ["to a release that does not exist", null, "r9", /there is no release r9/],
    ["to what runs already", null, "r2", /is what runs already/],
  ] as const)("%s says so", async (_what, empty, to, said) => {
    const environment =
      empty ??
      (await twice((changed) => {
        changed.set("embedder", "A", "1");
      }));
    const failure = await failureOf(runRollback(environment, to === undefined ? {} : { to }));
    expect(failure).toBeInstanceOf(UsageError);
    expect(failure.message).toMatch(said);
  });

  test("to a release that failed is refused", async () => {
    const environment = await twice((changed) => {
      changed.set("embedder", "A", "1");
    });
    environment.set("embedder", "FAULT", "nan");
    await failureOf(runDeploy(environment));
    expect((await failureOf(runRollback(environment, { to: "r3" }))).message).toMatch(/r3-\w+ was never good/);
  });

  test("works when what runs now is broken", async () => {
    const environment = await twice((changed) => {
      changed.code.wheel = "wheel-two";
    });
    for (const id of environment.machine.serving()) environment.machine.kill(id);
    environment.machine.wheels.delete("wheel-two");
    await runRollback(environment);
    expectExactlyOneServes(environment);
    expect(specOf(environment).code.wheel).toBe("wheel-one");
  });

  test("is announced by releases as current, warm, cached or cold", async () => {
    const environment = await twice((changed) => {
      changed.set("embedder", "A", "1");
    });
    const readiness = async (): Promise<readonly unknown[]> => {
      const { releases: rows } = await releases(environment.cli().ctx);
      return rows.map((row) => row.readiness);
    };
    expect(await readiness()).toEqual(["current", "warm"]);
    await coolDown(environment);
    expect(await readiness()).toEqual(["current", "cached"]);
    environment.machine.wheels.clear();
    expect(await readiness()).toEqual(["current", "cold"]);
  });
});

describe("how long a rollback is going to take", () => {
  const rowsOf = async (environment: Environment) => (await releases(environment.cli().ctx)).releases;

  test("is said from what was measured: its own start where that is cached, the newest of its kind else, and nothing made up", async () => {
    const environment = await twice((each) => each.set("embedder", "LOG_FORMAT", "json"));
    const [, first] = await rowsOf(environment);
    expect(first).toMatchObject({ readiness: "warm", measuredMs: null, expected: "not measured yet" });
    const result = await runRollback(environment);
    const took = environment.releases.records.get(result.release)?.took;
    expect(took).toEqual({ path: "warm", movedMs: result.movedAfterMs });
    const [, second] = await rowsOf(environment);
    expect(second).toMatchObject({ readiness: "warm", measuredMs: result.movedAfterMs });
    expect(second?.expected).toContain(`, as ${result.release} took`);
    await coolDown(environment);
    const [, cached] = await rowsOf(environment);
    expect(cached).toMatchObject({
      readiness: "cached",
      measuredMs: environment.releases.records.get(cached?.id ?? "r0-")?.took?.movedMs,
    });
    expect(cached?.expected).toContain(`, as ${cached?.id ?? ""} took`);
  });

  test("does not count the wait for a lease, nor what a deploy staged", async () => {
    const environment = new Environment();
    const stage = environment.driver.stage.bind(environment.driver);
    environment.driver.stage = async (...given) => {
      environment.clock.pass(60_000);
      return stage(...given);
    };
    const { release, elapsedMs } = await runDeploy(environment);
    const took = environment.releases.records.get(release ?? "r0-")?.took;
    expect(elapsedMs).toBeGreaterThan(60_000);
    expect(took?.path).toBe("cached");
    expect(took?.movedMs).toBeLessThan(10_000);
  });
});
