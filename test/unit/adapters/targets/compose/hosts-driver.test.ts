import { expect, test } from "vitest";
import { CommandNodes } from "../../../../../cli/src/adapters/nodes/command-nodes.js";
import { HostsDriver } from "../../../../../cli/src/adapters/targets/compose/hosts-driver.js";
import { turnsOf } from "../../../../../cli/src/adapters/targets/compose/on-hosts.js";
import { Failed, TargetUnreachable } from "../../../../../cli/src/domain/errors.js";
import type { ServiceSpec } from "../../../../../cli/src/domain/release.js";
import { ms } from "../../../../../cli/src/domain/units.js";
import type { InstanceObservation, Lease, NodeTarget, Observation, TargetDriver } from "../../../../../cli/src/ports.js";

const lease: Lease = { token: 1, check: () => Promise.resolve(), release: () => Promise.resolve() };
const id = "embedder-r1-aa-a";
const nobody = new AbortController().signal;

type Answers = Partial<Record<keyof TargetDriver, () => Promise<unknown>>>;

/** Hosts that note what they are asked; `answers` says what they say to it. */
class Hosts {
  readonly asked: string[] = [];
  readonly nodes: CommandNodes;
  readonly driver: HostsDriver;

  constructor(
    answers: Readonly<Record<string, Answers>>,
    { chosen, placed }: { chosen?: readonly string[]; placed?: readonly string[] } = {},
  ) {
    const names = Object.keys(answers);
    this.nodes = new CommandNodes(names, chosen === undefined ? {} : { hosts: chosen });
    const [first, ...rest] = names.map((node): NodeTarget => ({ node, driver: this.#host(node, answers[node] ?? {}) }));
    if (first === undefined) throw new Error("no hosts");
    this.driver = new HostsDriver({
      hosts: [first, ...rest],
      nodesOf: () => placed ?? names,
      nodes: this.nodes,
      looksFor: ms(20),
    });
  }

  #host(node: string, answers: Answers): TargetDriver {
    return new Proxy({} as TargetDriver, {
      get: (_, method) => (): Promise<unknown> => {
        this.asked.push(`${String(method)} ${node}`);
        return answers[method as keyof TargetDriver]?.() ?? Promise.resolve(undefined);
      },
    });
  }
}

const showing =
  (...instances: readonly Partial<InstanceObservation>[]) =>
  (): Promise<Observation> =>
    Promise.resolve({
      manager: { state: "running", detail: "proxy" },
      listeners: [],
      instances: instances.map((each) => ({
        id,
        service: "embedder",
        release: "r1-aa",
        slot: "a",
        process: { state: "running", pid: 1 },
        traffic: "open",
        restarts: 0,
        inflight: 0,
        stopsInMs: null,
        ...each,
      })),
    });

test("a change is made on every host to its end, and the first failure is thrown with its host", async () => {
  let ended = false;
  const slow = async (): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    ended = true;
  };
  const hosts = new Hosts({ one: {}, two: { open: () => Promise.reject(new Failed("no gate")) }, three: { open: slow } });
  const thrown: unknown = await hosts.driver.open(id, lease).catch((error: unknown) => error);
  expect((thrown as Error).message).toBe("no gate");
  expect(hosts.nodes.failedOn(new Error("around it", { cause: thrown }))).toBe("two");
  expect(ended).toBe(true);
});

test("a failure that names its own host is believed before the one it was noticed on", () => {
  const { nodes } = new Hosts({ one: {}, two: {} });
  const error = new TargetUnreachable("two cannot be reached", { data: { node: "two" } });
  nodes.blame(error, "one");
  expect(nodes.failedOn(error)).toBe("two");
  expect(nodes.failedOn(new Error("nobody knows"))).toBeNull();
});

test("files go to one host first: what is wrong with them shows before they are sent to all", async () => {
  const spec = { service: "embedder" } as ServiceSpec;
  const hosts = new Hosts({ one: { stage: () => Promise.reject(new Failed("no such image")) }, two: {}, three: {} });
  await expect(hosts.driver.stage(spec, "code", nobody)).rejects.toThrow("no such image");
  expect(hosts.asked).toEqual(["stage one"]);
});

test("a host that does not answer in time is silent like one that cannot be reached, and the others are shown", async () => {
  const hosts = new Hosts({
    one: { observe: showing({}) },
    two: { observe: () => new Promise(() => undefined) },
    three: { observe: () => Promise.reject(new TargetUnreachable("three cannot be reached", { because: "it is off" })) },
  });
  const { nodes, instances } = await hosts.driver.observe();
  expect(nodes?.map(({ silent }) => silent)).toEqual([null, "it said nothing for 0.02 s", "it is off"]);
  expect(instances[0]?.nodes).toHaveLength(1);
});

test("when no host answers, that is the answer; any other failure is never taken for silence", async () => {
  const off = { observe: () => Promise.reject(new TargetUnreachable("it cannot be reached")) };
  await expect(new Hosts({ one: off, two: off }).driver.observe()).rejects.toThrow("it cannot be reached");
  const broken = new Hosts({ one: { observe: showing() }, two: { observe: () => Promise.reject(new Failed("no rights")) } });
  await expect(broken.driver.observe()).rejects.toThrow("no rights");
});

test("hosts that were not chosen, and those that were given up, are left alone", async () => {
  const hosts = new Hosts(
    { one: { observe: showing({}) }, two: { observe: showing({}) }, three: { observe: showing({}) } },
    { chosen: ["one", "two"] },
  );
  hosts.nodes.giveUp("two", "it is off");
  await hosts.driver.observe();
  await hosts.driver.ensureManager(lease, nobody);
  await hosts.driver.open(id, lease);
  await hosts.driver.destroy(lease);
  expect(new Set(hosts.asked.map((line) => line.split(" ")[1]))).toEqual(new Set(["one"]));
  expect(hosts.driver.nodesOf("embedder").map(({ node }) => node)).toEqual(["one"]);
});

test("an instance is ended wherever it was seen, and opened only where its service is to run", async () => {
  const hosts = new Hosts({ one: { observe: showing({}) }, two: { observe: showing({}) } }, { placed: ["one"] });
  await hosts.driver.observe();
  hosts.asked.length = 0;
  await hosts.driver.open(id, lease);
  await hosts.driver.stop(id, null, lease);
  expect(hosts.asked).toEqual(["open one", "stop one", "stop two"]);
  expect(hosts.driver.at("two")).toBeDefined();
  expect(() => hosts.driver.at("three")).toThrow("three is no node of this environment");
});

test("models are removed on every host, and it is said where one stays and why", async () => {
  const one = { removed: [{ what: "model bge-m3", bytes: 7 }], kept: [] };
  const two = { removed: [], kept: ["model bge-m3: a container has it"] };
  const says = (said: unknown): Answers => ({ removeModels: () => Promise.resolve(said) });
  expect(await new Hosts({ one: says(one), two: says(two) }).driver.removeModels([], lease)).toEqual({
    removed: [{ what: "model bge-m3 on one", bytes: 7 }],
    kept: ["two: model bge-m3: a container has it"],
  });
});

test("the last lines of a log name their host where there are several", async () => {
  const tail = (text: string): Answers => ({ logTail: () => Promise.resolve([text]) });
  expect(await new Hosts({ one: tail("a"), two: tail("b") }).driver.logTail(id, 5)).toEqual(["one: a", "two: b"]);
  expect(await new Hosts({ one: tail("a") }).driver.logTail(id, 5)).toEqual(["a"]);
});

test("hosts whose listeners are made anew take turns, and the ingress follows the first of them", () => {
  const hosts = ["edge", "one", "two", "calm", "three"].map((node): NodeTarget => ({ node, driver: {} as TargetDriver }));
  const turns = (...given: Parameters<typeof turnsOf>): unknown => turnsOf(...given).map((turn) => turn.map(({ node }) => node));
  expect(turns(hosts, ["one", "two", "three"], "edge")).toEqual([["calm"], ["one"], ["edge"], ["two"], ["three"]]);
  expect(turns(hosts, ["edge", "one", "two"], "edge")).toEqual([["calm", "three"], ["one"], ["edge"], ["two"]]);
  expect(turns(hosts, ["edge"], undefined)).toEqual([["one", "two", "calm", "three"], ["edge"]]);
  expect(turns(hosts, [], "edge")).toEqual([["edge", "one", "two", "calm", "three"]]);
});
