import { describe, expect, it } from "vitest";
import { driftOperations } from "../../../cli/src/domain/drift.js";
import { describeOperation } from "../../../cli/src/domain/operations.js";
import { standbyOperations, standbyText, type Standby } from "../../../cli/src/domain/standby.js";
import type { ServiceName } from "../../../cli/src/domain/names.js";
import { recordOf } from "../../support/records.js";

const record = recordOf(2);
const right = "embedder-r2-00000002-cpu";
const standby = (changes: Partial<Standby> = {}): Standby => ({
  node: "gpu-1",
  service: "embedder",
  instance: right,
  wanted: true,
  state: "ready",
  ...changes,
});
const linesFor = (...standbys: Standby[]): readonly string[] => standbyOperations(record, standbys).map(describeOperation);

describe("what stands behind a service", () => {
  it.each(["ready", "answers", "loading"] as const)("and is %s is left alone", (state) => {
    expect(linesFor(standby({ state }))).toEqual([]);
  });

  it.each([
    [{ instance: null, state: "absent" } as const, "there is none on gpu-1"],
    [{ state: "ended" } as const, `${right} has ended on gpu-1`],
    [{ state: "shut" } as const, `${right} takes no requests on gpu-1`],
    [{ instance: "embedder-r1-00000001-cpu" } as const, "embedder-r1-00000001-cpu on gpu-1 is of another release"],
  ])("is put right when it is %o", (changes, because) => {
    expect(linesFor(standby(changes))).toEqual([`standby   ${right} behind embedder (${because})`]);
  });

  it("is taken away where gpuctl.yaml wants none, or the release has no such service", () => {
    expect(linesFor(standby({ wanted: false }))).toEqual([
      `standby   nothing behind embedder (${right} is no longer wanted on gpu-1)`,
    ]);
    expect(linesFor(standby({ service: "reranker", instance: "reranker-r1-00000001-cpu" }))).toEqual([
      "standby   nothing behind reranker (reranker-r1-00000001-cpu is no longer wanted on gpu-1)",
    ]);
    expect(linesFor(standby({ wanted: false, instance: null, state: "absent" }))).toEqual([]);
  });

  it("is one operation for all nodes, each with its reason", () => {
    const lines = linesFor(standby({ state: "ended" }), standby({ node: "gpu-2", instance: null, state: "absent" }));
    expect(lines).toEqual([`standby   ${right} behind embedder (${right} has ended on gpu-1, there is none on gpu-2)`]);
  });

  it("comes after the instances in slots, and not for what a rollout is about to replace", () => {
    const observed = { managerRuns: true, instances: [], writer: null, unstaged: [], standbys: [standby({ state: "ended" })] };
    expect(driftOperations(record, observed, new Set()).map(({ kind }) => kind)).toEqual(["restart", "stand-by"]);
    expect(driftOperations(record, observed, new Set(), new Set(["embedder"])).map(({ kind }) => kind)).toEqual([]);
    expect(standbyOperations(null, [standby({ state: "ended" })])).toEqual([]);
  });

  it("is told in a sentence, unless there is none and none is wanted", () => {
    expect(standbyText(standby({ state: "answers" }))).toBe(
      `embedder on gpu-1: ${right} answers on the CPU, because no other instance does`,
    );
    expect(standbyText(standby({ instance: null, state: "absent" }))).toBe("embedder on gpu-1: the CPU instance is not there");
    expect(standbyText(standby({ instance: null, wanted: false, state: "absent" }))).toBeNull();
  });
});

it("a proxy that was told other settings than those of gpuctl.yaml is told them, but not beside a rollout, which does it anyway", () => {
  const observed = {
    managerRuns: true,
    managerOutdated: "proxy/Caddyfile on gpu-1 is not what gpuctl.yaml says",
    instances: [],
    writer: null,
    unstaged: [],
  };
  const first = driftOperations(record, { ...observed, manager: "proxy" }, new Set())[0];
  expect(first === undefined ? "" : describeOperation(first)).toBe(
    "proxy     tell it its settings (proxy/Caddyfile on gpu-1 is not what gpuctl.yaml says)",
  );
  expect(driftOperations(record, observed, new Set(), new Set(["embedder"]))).toEqual([]);
});

it("what is missing beside the instances is started, but not beside a rollout, and a proxy that is told its settings starts it too", () => {
  const observed = { managerRuns: true, manager: "proxy", instances: [], writer: null, unstaged: [] } as const;
  const managerLacks = "the redis on gpu-1 is exited";
  const lines = (more: object, leave: readonly ServiceName[] = []): readonly string[] =>
    driftOperations(record, { ...observed, managerLacks, ...more }, new Set(), new Set(leave)).map(describeOperation);
  expect(lines({})[0]).toBe("proxy     start what belongs beside it (the redis on gpu-1 is exited)");
  expect(lines({ managerOutdated: "compose.yaml on gpu-1 is not what gpuctl.yaml says" })[0]).toBe(
    "proxy     tell it its settings (compose.yaml on gpu-1 is not what gpuctl.yaml says; the redis on gpu-1 is exited)",
  );
  expect(lines({ managerRestarts: ["proxy of gpu-1"] })[0]).toBe(
    "proxy     make it anew (the redis on gpu-1 is exited; the proxy of gpu-1 restarts: connections are refused for about a second)",
  );
  expect(lines({}, ["embedder"])).toEqual([]);
});
