import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalJson } from "../../cli/src/domain/canonical.js";
import { specChanges } from "../../cli/src/domain/changes.js";
import { fingerprintOf } from "../../cli/src/domain/fingerprint.js";
import { UsageError } from "../../cli/src/domain/errors.js";
import type { ServiceSpec } from "../../cli/src/domain/release.js";
import { Environment } from "../fakes/environment.js";
import { expectAtRest, expectExactlyOneServes, runDeploy, runPlan, runRepair, runRollback } from "../support/lifecycle.js";

const service = fc.constantFrom("embedder", "reranker", "index");

/** Things that happen to an environment between two deploys. */
const happening = fc.oneof(
  fc.record({ what: fc.constant("set"), service, value: fc.constantFrom("1", "2", "3") }),
  fc.record({ what: fc.constant("code"), value: fc.constantFrom("one", "two", "three") }),
  fc.record({ what: fc.constant("model"), value: fc.constantFrom("small", "large") }),
  fc.record({ what: fc.constant("kill"), nth: fc.nat(5) }),
  fc.record({ what: fc.constant("time"), ms: fc.constantFrom(1000, 500_000, 700_000) }),
  fc.record({ what: fc.constant("reboot") }),
  fc.record({ what: fc.constant("repair") }),
  fc.record({ what: fc.constant("rollback") }),
  fc.record({ what: fc.constant("item"), id: fc.uuid() }),
  fc.record({ what: fc.constant("drop"), service: fc.constant("reranker") }),
);
type Happening = typeof happening extends fc.Arbitrary<infer H> ? H : never;

async function happen(environment: Environment, event: Happening): Promise<void> {
  const { config, machine } = environment;
  const models = { small: "small", large: "large" } as const;
  if (event.what === "set" && "service" in event && "value" in event && config.services[event.service as "index"] !== undefined)
    environment.set(event.service, "SETTING", event.value);
  if (event.what === "code" && "value" in event) environment.code.wheel = `wheel-${event.value}`;
  if (event.what === "model" && "value" in event)
    for (const name of ["embedder", "reranker"] as const)
      if (config.services[name] !== undefined) environment.service(name).model = models[event.value as "small"];
  if (event.what === "kill" && "nth" in event) {
    const running = machine.runningIds();
    if (running.length > 0) machine.kill(running[event.nth % running.length] ?? "");
  }
  if (event.what === "time" && "ms" in event) environment.clock.pass(event.ms);
  if (event.what === "reboot") machine.reboot();
  if (event.what === "item" && "id" in event) machine.items.push({ id: event.id, text: event.id });
  if (event.what === "drop") delete config.services.reranker;
  if (event.what === "repair") {
    await runRepair(environment);
    expectExactlyOneServes(environment);
  }
  if (event.what === "rollback") {
    await runRollback(environment).catch((thrown: unknown) => {
      if (!(thrown instanceof UsageError)) throw thrown;
    });
  }
}

describe("whatever happened before", () => {
  test("a deploy leaves exactly one release serving and a plan with nothing in it", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(happening, { maxLength: 4 }), { minLength: 1, maxLength: 4 }), async (episodes) => {
        const environment = new Environment();
        await runDeploy(environment);
        for (const events of episodes) {
          for (const event of events) await happen(environment, event);
          await runDeploy(environment);
          await expectAtRest(environment);
        }
      }),
      { numRuns: 150 },
    );
  });

  test("planning twice gives the same plan, ids included", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(happening, { maxLength: 6 }), async (events) => {
        const environment = new Environment();
        await runDeploy(environment);
        for (const event of events) await happen(environment, event);
        expect(await runPlan(environment)).toEqual(await runPlan(environment));
      }),
      { numRuns: 60 },
    );
  });
});

const hash = fc.constantFrom("aaaaaaaaaa", "bbbbbbbbbb");
const spec: fc.Arbitrary<ServiceSpec> = fc.record({
  service: fc.constant("embedder" as const),
  code: fc.record({ wheel: hash, file: fc.constant("w.whl"), version: fc.constantFrom("1", "2") }),
  python: fc.record({ lock: hash }),
  model: fc.option(
    fc.record({
      name: fc.constantFrom("m", "n"),
      id: fc.constantFrom("org/m", "org/n"),
      revision: fc.constantFrom("1", "2"),
      manifest: hash,
      files: fc.dictionary(fc.constantFrom("model.onnx", "tokenizer.json"), hash),
      generation: fc.constantFrom("g|4", "h|4"),
    }),
  ),
  device: fc.record({
    prefer: fc.constantFrom("auto" as const, "cpu" as const),
    require: fc.constantFrom(null, "cpu" as const),
    proof: fc.constantFrom("self" as const, "vram" as const),
  }),
  env: fc.dictionary(fc.constantFrom("A", "B"), fc.constantFrom("", "1", "2")),
  secrets: fc.dictionary(fc.constantFrom("S"), hash),
  listen: fc.record({ host: fc.constantFrom("127.0.0.1", "::1"), port: fc.constantFrom(1, 2) }),
});

describe("specs", () => {
  test("have equal fingerprints exactly when no change can be named", () => {
    fc.assert(
      fc.property(spec, spec, (a, b) => {
        const named = specChanges(a, b);
        // A manifest covers its files, so files alone never differ in practice.
        if (
          a.model?.manifest === b.model?.manifest &&
          canonicalJson(a.model?.files ?? {}) !== canonicalJson(b.model?.files ?? {})
        )
          return;
        expect(named.length === 0).toBe(fingerprintOf(a) === fingerprintOf(b));
      }),
      { numRuns: 2000 },
    );
  });

  test("have a fingerprint that does not depend on the order of their members", () => {
    fc.assert(
      fc.property(spec, (one) => {
        const turned = JSON.parse(
          JSON.stringify(one, (_key, value: unknown) =>
            typeof value === "object" && value !== null && !Array.isArray(value)
              ? Object.fromEntries(Object.entries(value).reverse())
              : value,
          ),
        ) as ServiceSpec;
        expect(fingerprintOf(turned)).toBe(fingerprintOf(one));
      }),
    );
  });
});
