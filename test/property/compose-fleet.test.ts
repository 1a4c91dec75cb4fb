import fc from "fast-check";
import { expect, test } from "vitest";
import {
  applyEvent,
  fleetOutcome,
  hostVerdict,
  isOver,
  newFleet,
  nextTasks,
  type Fleet,
  type FleetTask,
} from "../../cli/src/domain/compose/fleet.js";

type Ending = "ok" | "fails" | "lost";
/** How each task on each host ends; a host that is lost stays lost. */
interface World {
  endings: Readonly<Record<string, Readonly<Record<"prepare" | "switch" | "revert", Ending>>>>;
  soak: "ok" | "fails" | "interrupted";
  parallel: number;
  /** Which of the running tasks ends next. */
  order: readonly number[];
  /** After so many events somebody presses Ctrl-C; -1: nobody does. */
  interruptAfter: number;
}

const ending = fc.oneof({ weight: 6, arbitrary: fc.constant<Ending>("ok") }, fc.constantFrom<Ending>("fails", "lost"));
const world: fc.Arbitrary<World> = fc.record({
  endings: fc.dictionary(
    fc.constantFrom("gpu-1", "gpu-2", "gpu-3", "gpu-4"),
    fc.record({ prepare: ending, switch: ending, revert: ending }),
    {
      minKeys: 1,
    },
  ),
  soak: fc.constantFrom("ok", "fails", "interrupted"),
  parallel: fc.integer({ min: 1, max: 4 }),
  order: fc.array(fc.nat(10), { minLength: 60, maxLength: 60 }),
  interruptAfter: fc.oneof(fc.constant(-1), fc.nat(12)),
});

interface Run {
  fleet: Fleet;
  /** What really serves, host by host; `unknown` where the connection was lost while traffic moved. */
  serves: Map<string, "old" | "new" | "unknown">;
  mostSwitching: number;
  trace: string[];
}

/** Drives a fleet through a world, as the use case would. */
function drive({ endings, soak, parallel, order, interruptAfter }: World): Run {
  const hosts = Object.keys(endings);
  const run: Run = {
    fleet: newFleet(hosts, parallel),
    serves: new Map(hosts.map((host) => [host, "old"])),
    mostSwitching: 0,
    trace: [],
  };
  const lost = new Set<string>();
  let open: FleetTask[] = [];
  for (let step = 0; step < 60 && !isOver(run.fleet); step += 1) {
    if (step === interruptAfter) run.fleet = applyEvent(run.fleet, { kind: "interrupted" });
    for (const task of nextTasks(run.fleet)) {
      if (open.some((one) => JSON.stringify(one) === JSON.stringify(task))) continue;
      run.fleet = applyEvent(run.fleet, { kind: "started", task });
      open.push(task);
    }
    run.mostSwitching = Math.max(run.mostSwitching, open.filter(({ kind }) => kind === "switch").length);
    const task = open[(order[step] ?? 0) % Math.max(open.length, 1)];
    if (task === undefined) continue;
    open = open.filter((one) => one !== task);
    finish(run, task, endings, soak, lost);
  }
  return run;
}

function finish(run: Run, task: FleetTask, endings: World["endings"], soak: World["soak"], lost: Set<string>): void {
  run.trace.push(task.kind === "soak" ? "soak" : `${task.kind} ${task.host}`);
  if (task.kind === "soak") {
    const ok = { kind: "soaked" } as const;
    const bad = { kind: "soak-failed", host: null, because: "p95 rose" } as const;
    run.fleet = applyEvent(run.fleet, soak === "ok" ? ok : soak === "fails" ? bad : { kind: "interrupted" });
    return;
  }
  const { kind, host } = task;
  const ends: Ending = lost.has(host) ? "lost" : (endings[host]?.[kind] ?? "ok");
  if (ends === "lost") lost.add(host);
  if (kind === "switch") run.serves.set(host, ends === "ok" ? "new" : "unknown");
  if (kind === "revert" && ends === "ok") run.serves.set(host, "old");
  run.fleet = applyEvent(
    run.fleet,
    ends === "ok" ? { kind: "done", task: kind, host } : { kind: "failed", task: kind, host, because: ends },
  );
}

test("every deploy comes to an end, and its outcome says what really serves", () => {
  fc.assert(
    fc.property(world, (given) => {
      const { fleet, serves } = drive(given);
      expect(isOver(fleet)).toBe(true);
      const outcome = fleetOutcome(fleet, "r12-9f3ab2c1");
      const all = [...serves.values()];
      if (outcome.kind === "good") expect(new Set(all)).toEqual(new Set(["new"]));
      if (outcome.kind === "reverted") expect(new Set(all)).toEqual(new Set(["old"]));
      if (outcome.kind === "mixed") {
        // Exactly the hosts that could not be taken back are named.
        expect(new Set(outcome.stuck)).toEqual(new Set([...serves].filter(([, what]) => what !== "old").map(([host]) => host)));
        expect(outcome.nextSteps.join(" ")).toContain("gpuctl repair");
      }
    }),
    { numRuns: 500 },
  );
});

test("a host that served the new release and cannot be reached for the way back leaves the target mixed", () => {
  fc.assert(
    fc.property(world, (given) => {
      const { fleet } = drive(given);
      const unreverted = fleet.hosts.filter(({ state, touched }) => state === "stuck" && touched);
      expect(fleetOutcome(fleet, "r1").kind === "mixed").toBe(unreverted.length > 0);
    }),
  );
});

test("nothing is switched before everything is prepared, nor after anything was taken back, and never more at once than allowed", () => {
  fc.assert(
    fc.property(world, (given) => {
      const { trace, mostSwitching, fleet } = drive(given);
      const first = (kind: string): number => trace.findIndex((line) => line.startsWith(kind));
      const last = (kind: string): number => trace.findLastIndex((line) => line.startsWith(kind));
      if (first("switch") >= 0) {
        expect(last("prepare")).toBeLessThan(first("switch"));
        expect(trace.filter((line) => line.startsWith("prepare"))).toHaveLength(fleet.hosts.length);
      }
      if (first("revert") >= 0) expect(Math.max(last("switch"), last("prepare"))).toBeLessThan(first("revert"));
      expect(mostSwitching).toBeLessThanOrEqual(given.parallel);
      expect(new Set(trace).size).toBe(trace.length);
    }),
  );
});

test("what does not fit to what is under way changes nothing", () => {
  const fleet = newFleet(["gpu-1", "gpu-2"]);
  expect(applyEvent(fleet, { kind: "done", task: "switch", host: "gpu-1" })).toBe(fleet);
  expect(applyEvent(fleet, { kind: "started", task: { kind: "switch", host: "gpu-1" } })).toBe(fleet);
  expect(applyEvent(fleet, { kind: "failed", task: "prepare", host: "gpu-9", because: "?" })).toBe(fleet);
});

test("a deploy that is continued switches the remaining hosts, and takes back the earlier ones too when it fails", () => {
  const start = newFleet(["gpu-1", "gpu-2"], 1, new Set(["gpu-1"]));
  expect(nextTasks(start)).toEqual([{ kind: "prepare", host: "gpu-2" }]);
  let fleet = applyEvent(start, { kind: "started", task: { kind: "prepare", host: "gpu-2" } });
  fleet = applyEvent(fleet, { kind: "failed", task: "prepare", host: "gpu-2", because: "no disk" });
  expect(nextTasks(fleet)).toEqual([
    { kind: "revert", host: "gpu-1", touched: true },
    { kind: "revert", host: "gpu-2", touched: false },
  ]);
  expect(hostVerdict(fleet.hosts[1]!)).toBe("ready (no disk)");
});

test("the words for the ends of a deploy", () => {
  let fleet = newFleet(["gpu-1", "gpu-2"]);
  const go = (task: "prepare" | "switch" | "revert", host: string, because: string | null): void => {
    const [found] = nextTasks(fleet).filter((one) => one.kind === task && one.host === host);
    fleet = applyEvent(fleet, { kind: "started", task: found! });
    fleet = applyEvent(fleet, because === null ? { kind: "done", task, host } : { kind: "failed", task, host, because });
  };
  go("prepare", "gpu-1", null);
  go("prepare", "gpu-2", null);
  go("switch", "gpu-1", null);
  go("switch", "gpu-2", "the connection was lost");
  go("revert", "gpu-1", null);
  go("revert", "gpu-2", "it cannot be reached");
  expect(fleetOutcome(fleet, "r12-9f3ab2c1")).toEqual({
    kind: "mixed",
    because: "gpu-2: the connection was lost",
    stuck: ["gpu-2"],
    nextSteps: ["gpuctl status", "gpuctl repair --hosts gpu-2", "gpuctl deploy --continue, to finish r12-9f3ab2c1 instead"],
  });
  expect(fleet.hosts.map(hostVerdict)).toEqual([
    "serves the old release, switched back",
    "not known what serves (it cannot be reached)",
  ]);
});
