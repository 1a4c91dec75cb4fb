import { describe, expect, test } from "vitest";
import { specChanges } from "../../../cli/src/domain/changes.js";
import { modelsOf } from "../../../cli/src/domain/release.js";
import { Environment } from "../../fakes/environment.js";
import { current, runDeploy, runPlan } from "../../support/lifecycle.js";

const withFallback = (maxCandidates: number): Environment => {
  const environment = new Environment(["reranker"]);
  const reranker = environment.service("reranker");
  reranker.model = "cross";
  reranker.fallback = { kind: "model", model: "small", maxCandidates };
  return environment;
};

describe("a reranker with a smaller fallback model", () => {
  test("records both models, pinned, and what the smaller one may take", async () => {
    const environment = withFallback(20);
    await runDeploy(environment);
    const spec = current(environment)?.services.reranker?.spec;
    expect(spec?.fallback).toMatchObject({ model: { name: "small" }, maxCandidates: 20 });
    expect(spec?.env["GPUCTL_FALLBACK_MAX_CANDIDATES"]).toBe("20");
    expect(spec && modelsOf(spec).map(({ name }) => name)).toEqual(["cross", "small"]);
  });

  test("is changed by another limit or another model, and says so in the plan", async () => {
    const environment = withFallback(20);
    await runDeploy(environment);
    environment.service("reranker").fallback = { kind: "model", model: "large", maxCandidates: 20 };
    const { changes } = await runPlan(environment);
    expect(JSON.stringify(changes)).toContain("fallback model");
    environment.service("reranker").fallback = { kind: "cpu" };
    expect((await runPlan(environment)).changes).toHaveLength(1);
  });

  test("is not part of a spec that has none, whose fingerprint stays what it was", async () => {
    const environment = new Environment(["reranker"]);
    await runDeploy(environment);
    const spec = current(environment)?.services.reranker?.spec;
    expect(spec && Object.keys(spec)).not.toContain("fallback");
    expect(spec && specChanges(spec, spec)).toEqual([]);
  });
});
