import { describe, expect, it } from "vitest";
import { observationOf } from "../../../../../cli/src/adapters/targets/compose/observed-node.js";
import { readHostView } from "../../../../../cli/src/adapters/targets/compose/observation.js";
import { placeOf } from "../../../../../cli/src/adapters/targets/compose/place-of.js";
import { companionLabels, labelsOf } from "../../../../../cli/src/domain/compose/labels.js";
import type { HostInstance } from "../../../../../cli/src/domain/compose/node.js";
import { mib } from "../../../../../cli/src/domain/units.js";
import { instance, nodeWith, service } from "../../../compose/nodes.js";

const node = nodeWith();
const settings = { ...node, services: [{ service: "embedder", port: 8001, cpuFallback: false }] } as const;
const a = instance("embedder", "a");
const b = instance("embedder", "b");

const container = (labels: Record<string, string>, state: object): object => ({
  Id: "f".repeat(64),
  Name: "/x",
  State: { Status: "running", Pid: 812, ExitCode: 0, StartedAt: "2026-11-20T10:00:00Z", ...state },
  RestartCount: 0,
  Config: { Labels: labels },
});
const of = (each: HostInstance, state: object = {}): object => container(labelsOf(node, each), state);
const proxy = (state: object = {}): object => container(companionLabels(node, "proxy"), state);

/** What the script prints. */
const look = (containers: readonly object[], lines: readonly string[] = [], docker = "docker 0 ok"): string =>
  ["btime 1763600000", "up 5000 boot-1", ...lines, docker, JSON.stringify(containers, null, 2)].join("\n");
const nothing = { hostMemory: mib(0), services: [], images: [] };
const seen = (
  text: string,
  upstreams: Parameters<typeof observationOf>[1] = null,
  kept = nothing as Parameters<typeof observationOf>[3],
) => observationOf(readHostView(text), upstreams, settings, kept);

describe("one look at a host", () => {
  it("sees a fresh one", () => {
    const fresh = seen("btime 1763600000\nup 5000 boot-1\ndocker 0 ok\n");
    expect(fresh.manager).toEqual({ state: "absent", detail: "no proxy on gpu-1" });
    expect(fresh.instances).toEqual([]);
    expect(fresh.listeners).toEqual([{ service: "embedder", host: "10.0.0.5", port: 8001, bound: false }]);
  });

  it("sees what serves, what is warm and when that ends, and the requests of each", () => {
    const text = look(
      [of(a), of(b), proxy()],
      [`gates ${a.id} open`, `gates ${b.id} paused`, `orders ${b.id} stop 5060 boot-1 7-1`],
    );
    const { manager, instances, listeners } = seen(text, [
      { address: "embedder-a:8001", requests: 3, fails: 0 },
      { address: "embedder-b:8001", requests: 0, fails: 0 },
    ]);
    expect(manager.state).toBe("running");
    expect(listeners[0]?.bound).toBe(true);
    expect(instances).toMatchObject([
      { id: a.id, traffic: "open", inflight: 3, process: { state: "running", pid: 812 }, stopsInMs: null },
      { id: b.id, traffic: "paused", inflight: 0, stopsInMs: 60_000 },
    ]);
  });

  it("tells what was ended on purpose from what ended by itself", () => {
    const ended = { Status: "exited", Pid: 0, ExitCode: 1 };
    const [first] = seen(look([of(a, ended)], [`gates ${a.id} closed`])).instances;
    expect(first?.process).toEqual({ state: "exited", code: 1, signal: null });
    const [stopped] = seen(look([of(a, ended)], [`gates ${a.id} open`, `orders ${a.id} suspended 9000 boot-1 7-1`])).instances;
    expect(stopped).toMatchObject({ process: { state: "stopped" }, traffic: "closed" });
    const [back] = seen(look([of(a)], [`gates ${a.id} open`, `orders ${a.id} suspended 9000 boot-1 7-1`])).instances;
    expect(back).toMatchObject({ process: { state: "running" }, traffic: "open" });
  });

  it("takes one that made room for open again after its time, and after a reboot, because so does the instance", () => {
    const traffic = (line: string, order: string): unknown =>
      seen(look([of(a)], [`gates ${a.id} ${line}`, `orders ${a.id} ${order}`])).instances[0]?.traffic;
    expect(traffic("paused until 9000", "suspended 9000 boot-1 7-1")).toBe("paused");
    expect(traffic("closed until 9000", "suspended 9000 boot-1 7-1")).toBe("closed");
    expect(traffic("paused until 5000", "suspended 5000 boot-1 7-1")).toBe("open");
    expect(traffic("paused until 9000", "suspended 9000 boot-0 7-1")).toBe("open");
    expect(traffic("closed until 9000", "suspended 9000 boot-0 7-1")).toBe("open");
    expect(traffic("paused", "stopped")).toBe("paused");
  });

  it("does not believe the time of an order from before a reboot", () => {
    const [only] = seen(look([of(b)], [`gates ${b.id} paused`, `orders ${b.id} stop 5060 boot-0 7-1`])).instances;
    expect(only?.stopsInMs).toBeNull();
  });

  it("says what should be there when Docker does not answer", () => {
    const text = look(
      [],
      [`gates ${a.id} open`],
      "docker 1 Cannot connect to the Docker daemon at unix:///var/run/docker.sock. ",
    );
    const kept = { hostMemory: mib(1), services: [service("embedder", [a])], images: [] };
    const { manager, instances } = seen(text, null, kept);
    expect(manager).toMatchObject({
      state: "absent",
      detail: expect.stringContaining("Cannot connect to the Docker daemon") as string,
    });
    expect(instances).toMatchObject([{ id: a.id, traffic: "open", process: { state: "exited", code: null } }]);
  });
});

it("an instance's id says its place, and nothing else does", () => {
  expect(placeOf("reranker-r12-9f3ab2c1-b")).toEqual({ service: "reranker", slot: "b" });
  for (const id of ["reranker-r12-9f3ab2c1-c", "web-r1-00000001-a", "x; rm -rf /"])
    expect(() => placeOf(id)).toThrow("no instance");
});
