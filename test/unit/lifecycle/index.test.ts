import { describe, expect, test } from "vitest";
import { deploy } from "../../../cli/src/app/deploy.js";
import { status } from "../../../cli/src/app/status.js";
import { CandidateFailed } from "../../../cli/src/domain/errors.js";
import { ms } from "../../../cli/src/domain/units.js";
import { Environment } from "../../fakes/environment.js";
import {
  current,
  expectAtRest,
  expectExactlyOneServes,
  failureOf,
  runDeploy,
  runPlan,
  runRollback,
} from "../../support/lifecycle.js";

const small = "models/small@1|mean|normalized||4";
const large = "models/large@1|mean|normalized||6";

async function withDocuments(): Promise<Environment> {
  const environment = new Environment();
  await runDeploy(environment);
  for (let i = 0; i < 7; i += 1) environment.machine.items.push({ id: `doc${i}`, text: `text ${i}` });
  environment.machine.generations.set(small, new Set(environment.machine.items.map(({ id }) => id)));
  return environment;
}

const changeModel = (environment: Environment): void => {
  environment.service("embedder").model = "large";
  environment.service("reranker").model = "large";
};

describe("the index in a deploy", () => {
  test("hands the writer over and prints how long writes were held", async () => {
    const environment = await withDocuments();
    environment.code.wheel = "wheel-two";
    const cli = environment.cli();
    const result = await deploy(cli.ctx, { service: undefined, lockWait: ms(0) });
    expect(result.heldMs).toBe(3);
    expect(cli.events).toContainEqual({ kind: "step", text: "writes to the index were held for 3 ms" });
    await expectAtRest(environment);
  });

  test("is kept when a copy on another device begins to answer in the soak, and is still warm while one does", async () => {
    const environment = await withDocuments();
    environment.set("index", "FAULT", "leaves-device-when-open");
    await runDeploy(environment);
    const { services } = await status(environment.cli().ctx);
    // The proof is the CPU's: beside another device it would say that one was proven.
    expect(services.map(({ service, device, proof }) => [service, device, proof])).toEqual([
      ["embedder", "cpu", "self"],
      ["reranker", "cpu", "self"],
      ["index", "mps", null],
    ]);
    const first = current(environment)?.services["index"]?.since;
    environment.code.wheel = "wheel-two";
    await runDeploy(environment);
    expect(current(environment)?.services["index"]?.since).not.toBe(first);
    await runRollback(environment);
    expectExactlyOneServes(environment);
  });

  test("that holds writes for too long is taken back", async () => {
    const environment = await withDocuments();
    environment.set("index", "SLOW_HAND_OVER", "1");
    await runDeploy(environment);
    const serving = environment.machine.serving();
    environment.code.wheel = "wheel-two";
    const failure = await failureOf(runDeploy(environment));
    expect(failure).toBeInstanceOf(CandidateFailed);
    expect(failure.because).toMatch(/held for 3 s, longer than the limit of 1 s/);
    expect(environment.machine.serving()).toEqual(serving);
    expectExactlyOneServes(environment);
  });

  test("gets every vector of a new embedding model before the switch", async () => {
    const environment = await withDocuments();
    changeModel(environment);
    expect((await runPlan(environment)).operations).toContain(`vectors   build ${large} (6 dimensions)`);
    await runDeploy(environment);
    expect(environment.machine.generations.get(large)?.size).toBe(7);
    expect(current(environment)?.services.index?.spec.env).toMatchObject({
      GPUCTL_INDEX_GENERATION: large,
      GPUCTL_INDEX_DIMENSION: "6",
    });
    await expectAtRest(environment);
  });

  test("follows an embedder that is deployed alone into its new vector space", async () => {
    const environment = await withDocuments();
    environment.service("embedder").model = "large";
    const planned = await runPlan(environment, "embedder");
    expect(planned.changes.map(({ service }) => service)).toEqual(["embedder", "index"]);
    expect(planned.notes).toEqual(["the index switches with the embedder, because the embedder's vectors change"]);
    await runDeploy(environment, "embedder");
    await expectAtRest(environment);
  });

  test("stays in the vector space of the running embedder when it is deployed alone", async () => {
    const environment = await withDocuments();
    environment.service("embedder").model = "large";
    environment.set("index", "GPUCTL_INDEX_TYPE", "Flat");
    await runDeploy(environment, "index");
    expect(current(environment)?.services.index?.spec.env["GPUCTL_INDEX_GENERATION"]).toBe(small);
    expectExactlyOneServes(environment);
  });

  test("refuses another model with the number of items that have no text", async () => {
    const environment = await withDocuments();
    environment.machine.items.push({ id: "bare", text: null });
    changeModel(environment);
    const failure = await failureOf(runDeploy(environment));
    expect(failure.because).toMatch(
      /^1 item of the index cannot be brought into generation models\/large@1.*add them again with text/,
    );
    expectExactlyOneServes(environment);
    expect(current(environment)?.number).toBe(1);
  });

  test("returns with a rollback to the old generation, with what was written since", async () => {
    const environment = await withDocuments();
    changeModel(environment);
    await runDeploy(environment);
    environment.machine.items.push({ id: "late", text: "written since" });
    await runRollback(environment);
    expect(environment.machine.generations.get(small)).toContain("late");
    expectExactlyOneServes(environment);
    expect(current(environment)?.services.index?.spec.env["GPUCTL_INDEX_GENERATION"]).toBe(small);
  });

  test("refuses a rollback with the number of later items that have no text", async () => {
    const environment = await withDocuments();
    changeModel(environment);
    await runDeploy(environment);
    environment.machine.items.push({ id: "late", text: null }, { id: "later", text: null });
    expect((await failureOf(runRollback(environment))).because).toMatch(
      /^2 items of the index cannot be brought into generation models\/small@1/,
    );
    expectExactlyOneServes(environment);
  });
});
