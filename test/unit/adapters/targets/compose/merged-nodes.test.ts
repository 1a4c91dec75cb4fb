import { expect, test } from "vitest";
import { mergeHealth, mergeObservations, type Seen } from "../../../../../cli/src/adapters/targets/compose/merged-nodes.js";
import { TargetUnreachable } from "../../../../../cli/src/domain/errors.js";
import type { InstanceHealth, InstanceObservation } from "../../../../../cli/src/ports.js";

const instance = (change: Partial<InstanceObservation> = {}): InstanceObservation => ({
  id: "embedder-r1-aa-a",
  service: "embedder",
  release: "r1-aa",
  slot: "a",
  process: { state: "running", pid: 7 },
  traffic: "open",
  restarts: 0,
  inflight: 1,
  stopsInMs: null,
  ...change,
});
const seen = (node: string, ...instances: readonly InstanceObservation[]): Seen => ({
  node,
  observation: { manager: { state: "running", detail: `proxy on ${node}` }, instances, listeners: [] },
  silent: null,
});
const silent = (node: string): Seen => ({
  node,
  observation: null,
  silent: new TargetUnreachable(`${node} cannot be reached`, { because: "it is off" }),
});
const everywhere = () => ["one", "two", "three"];

test("what runs and answers on all of its nodes is whole, and its figures are those of all", () => {
  const { manager, instances } = mergeObservations(
    [seen("one", instance({ restarts: 2 })), seen("two", instance()), seen("three", instance({ inflight: 4 }))],
    everywhere,
  );
  expect(manager.state).toBe("running");
  expect(instances).toHaveLength(1);
  expect(instances[0]).toMatchObject({ traffic: "open", restarts: 2, inflight: 6 });
  expect(instances[0]?.partial).toBeUndefined();
});

test("it counts as open where it is open anywhere; nodes that miss it, hold it shut or should not have it are named", () => {
  const { instances } = mergeObservations(
    [seen("one", instance()), seen("two", instance({ traffic: "paused" })), seen("three"), seen("four", instance())],
    everywhere,
  );
  expect(instances[0]).toMatchObject({ traffic: "open", partial: { missing: ["three"], shut: ["two"], extra: ["four"] } });
  expect(instances[0]?.nodes?.map(({ node, traffic }) => [node, traffic])).toEqual([
    ["one", "open"],
    ["two", "paused"],
    ["four", "open"],
  ]);
});

test("one that ended somewhere and runs elsewhere runs, and is missing there", () => {
  const ended = instance({ process: { state: "exited", code: 1, signal: null }, traffic: "closed" });
  const { instances } = mergeObservations([seen("one", ended), seen("two", instance()), seen("three", instance())], everywhere);
  expect(instances[0]).toMatchObject({ process: { state: "running" }, partial: { missing: ["one"], shut: [], extra: [] } });
});

test("about a node that says nothing nothing is concluded, but that it is silent", () => {
  const { manager, instances, nodes } = mergeObservations(
    [seen("one", instance()), silent("two"), seen("three", instance())],
    everywhere,
  );
  expect(instances[0]?.partial).toBeUndefined();
  expect(manager).toEqual({ state: "absent", detail: "two cannot be reached: it is off" });
  expect(nodes).toEqual([
    { node: "one", silent: null },
    { node: "two", silent: "it is off" },
    { node: "three", silent: null },
  ]);
});

test("requests in flight that one node does not know are known of none, and the last to stop says when all have", () => {
  const paused = { traffic: "paused" } as const;
  const { instances } = mergeObservations(
    [seen("one", instance({ ...paused, inflight: null, stopsInMs: 500 })), seen("two", instance({ ...paused, stopsInMs: 900 }))],
    () => ["one", "two"],
  );
  expect(instances[0]).toMatchObject({ inflight: null, stopsInMs: 900, traffic: "paused" });
});

const health = (change: Partial<InstanceHealth> = {}): InstanceHealth => ({
  status: "healthy",
  device: "cuda",
  model: "m",
  fallback: false,
  reason: null,
  ...change,
});

test("the worst health speaks for all, with its node; a device that differs is told even where all are healthy", () => {
  const one = { node: "one", health: health() };
  expect(mergeHealth([one, { node: "two", health: health({ status: "degraded", reason: "no memory" }) }])).toMatchObject({
    status: "degraded",
    reason: "two: no memory",
  });
  expect(mergeHealth([one, { node: "two", health: health({ device: "cpu" }) }])).toMatchObject({
    status: "healthy",
    reason: "one on cuda, two on cpu",
  });
  expect(mergeHealth([one])).toEqual(health());
  expect(mergeHealth([])).toMatchObject({ status: "failed", reason: "no node runs it" });
});

test("what does not run beside the instances is told for every host that lacks it, and the target answers all the same", () => {
  const lacking = (node: string): Seen => {
    const lacks = `the redis on ${node} is exited`;
    return {
      node,
      silent: null,
      observation: { manager: { state: "running", detail: node, lacks }, instances: [], listeners: [] },
    };
  };
  const { manager } = mergeObservations([lacking("one"), seen("two"), lacking("three")], everywhere);
  expect(manager).toMatchObject({ state: "running", lacks: "the redis on one is exited; the redis on three is exited" });
});
