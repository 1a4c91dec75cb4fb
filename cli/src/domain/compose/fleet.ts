/**
 * A deploy over several hosts, as a state machine: prepare all, switch one by one (or a few at a time), and take everything back when
 * one fails. It only decides; whoever drives it does what `nextTasks` says and tells what came of it.
 */

/** What one host is at. */
export type HostState =
  /** Nothing was done on it yet; the old release serves. */
  | "waiting"
  | "preparing"
  /** The candidate runs there, proven, without traffic. */
  | "ready"
  | "switching"
  /** The candidate serves there. */
  | "switched"
  | "reverting"
  /** The old release serves, as before, and the candidate is gone. */
  | "reverted"
  /** It could not be taken back: what serves there is not known. */
  | "stuck";

export interface FleetHost {
  name: string;
  state: HostState;
  /** Whether traffic may have been moved there: a host whose switch failed midway must be taken back like one that was switched. */
  touched: boolean;
  /** Why it failed, or null. */
  failure: string | null;
}

export interface Fleet {
  hosts: readonly FleetHost[];
  /** Most hosts that switch at the same time. */
  parallel: number;
  /** The first failure; from then on everything is taken back. */
  failure: { host: string | null; because: string } | null;
  /** Set when every host was switched and the watch over the new release has ended well. */
  soaked: boolean;
}

export type FleetTask =
  | { kind: "prepare"; host: string }
  | { kind: "switch"; host: string }
  /** The old release gets its traffic back where it may have lost it, and the candidate is ended. */
  | { kind: "revert"; host: string; touched: boolean }
  | { kind: "soak"; hosts: readonly string[] };

export type FleetEvent =
  | { kind: "started"; task: FleetTask }
  | { kind: "done"; task: "prepare" | "switch" | "revert"; host: string }
  | { kind: "failed"; task: "prepare" | "switch" | "revert"; host: string; because: string }
  | { kind: "soaked" }
  | { kind: "soak-failed"; host: string | null; because: string }
  /** SIGINT or SIGTERM: the old release is left serving everywhere. */
  | { kind: "interrupted" };

/** @param done  hosts that an earlier, interrupted deploy of the same release has switched already (`--continue`) */
export function newFleet(names: readonly string[], parallel = 1, done: ReadonlySet<string> = new Set()): Fleet {
  const hosts = [...new Set(names)].map((name): FleetHost => ({
    name,
    state: done.has(name) ? "switched" : "waiting",
    touched: done.has(name),
    failure: null,
  }));
  return { hosts, parallel: Math.max(1, Math.floor(parallel)), failure: null, soaked: false };
}

const busy: readonly HostState[] = ["preparing", "switching", "reverting"];

/**
 * Everything that may start now. Empty while only running tasks remain, and when all is over (`isOver`). Taking back begins when
 * no other task runs any more, so that no host is switched after it was reverted.
 */
export function nextTasks(fleet: Fleet): readonly FleetTask[] {
  const { hosts } = fleet;
  const inState = (state: HostState): readonly FleetHost[] => hosts.filter((host) => host.state === state);
  if (fleet.failure !== null) {
    if (inState("preparing").length + inState("switching").length > 0) return [];
    return hosts.filter(needsRevert).map(({ name, touched }) => ({ kind: "revert", host: name, touched }));
  }
  if (inState("waiting").length > 0) return inState("waiting").map(({ name }) => ({ kind: "prepare", host: name }));
  if (inState("preparing").length > 0 || fleet.soaked) return [];
  const free = fleet.parallel - inState("switching").length;
  const switches = inState("ready").slice(0, Math.max(0, free));
  if (switches.length > 0) return switches.map(({ name }) => ({ kind: "switch", host: name }));
  const all = hosts.length > 0 && hosts.every(({ state }) => state === "switched");
  return all ? [{ kind: "soak", hosts: hosts.map(({ name }) => name) }] : [];
}

/** A host on which something of the candidate may be. One that waits was never touched; one that is stuck was tried. */
const needsRevert = ({ state }: FleetHost): boolean => state === "ready" || state === "switched";

/** The fleet after something happened. An event that does not fit what is under way changes nothing. */
export function applyEvent(fleet: Fleet, event: FleetEvent): Fleet {
  switch (event.kind) {
    case "started":
      return started(fleet, event.task);
    case "done":
      return afterTask(fleet, event.host, event.task, null);
    case "failed":
      return afterTask(fleet, event.host, event.task, event.because);
    case "soaked":
      return fleet.failure === null ? { ...fleet, soaked: true } : fleet;
    case "soak-failed":
      return fleet.soaked ? fleet : withFailure(fleet, event.host, event.because);
    case "interrupted":
      return fleet.soaked ? fleet : withFailure(fleet, null, "it was stopped on request");
  }
}

const running: Readonly<Record<"prepare" | "switch" | "revert", HostState>> = {
  prepare: "preparing",
  switch: "switching",
  revert: "reverting",
};

function started(fleet: Fleet, task: FleetTask): Fleet {
  if (task.kind === "soak") return fleet;
  const { kind, host } = task;
  const allowed = nextTasks(fleet).some((next) => next.kind === kind && next.host === host);
  if (!allowed) return fleet;
  return change(fleet, host, (one) => ({ ...one, state: running[kind], touched: one.touched || kind === "switch" }));
}

function afterTask(fleet: Fleet, host: string, task: "prepare" | "switch" | "revert", because: string | null): Fleet {
  const expected = running[task];
  if (!fleet.hosts.some(({ name, state }) => name === host && state === expected)) return fleet;
  if (task === "revert") {
    const state = because === null ? "reverted" : "stuck";
    return change(fleet, host, (one) => ({ ...one, state, failure: because ?? one.failure }));
  }
  // Failed or not, the host holds something of the candidate now: it is taken back from here.
  const state = task === "prepare" ? "ready" : "switched";
  const next = change(fleet, host, (one) => ({ ...one, state, failure: because }));
  return because === null ? next : withFailure(next, host, because);
}

function change(fleet: Fleet, name: string, to: (host: FleetHost) => FleetHost): Fleet {
  return { ...fleet, hosts: fleet.hosts.map((host) => (host.name === name ? to(host) : host)) };
}

const withFailure = (fleet: Fleet, host: string | null, because: string): Fleet =>
  fleet.failure === null ? { ...fleet, failure: { host, because } } : fleet;

/** Whether nothing runs and nothing is left to do. */
export const isOver = (fleet: Fleet): boolean =>
  (fleet.soaked || fleet.failure !== null) &&
  !fleet.hosts.some(({ state }) => busy.includes(state)) &&
  nextTasks(fleet).length === 0;

/** How it ended. */
export type FleetOutcome =
  | { kind: "good" }
  /** The old release serves everywhere. Exit code 6. */
  | { kind: "reverted"; because: string; left: readonly string[]; nextSteps: readonly string[] }
  /** Hosts serve different releases, or nobody knows. Exit code 9. */
  | { kind: "mixed"; because: string; stuck: readonly string[]; nextSteps: readonly string[] };

/** Judges a fleet that is over. A host that got no traffic and cannot be reached is no mix: its old release serves, a candidate idles. */
export function fleetOutcome(fleet: Fleet, release: string): FleetOutcome {
  const { failure, hosts } = fleet;
  if (failure === null) return { kind: "good" };
  const because = failure.host === null ? failure.because : `${failure.host}: ${failure.because}`;
  const stuck = hosts.filter(({ state, touched }) => state === "stuck" && touched).map(({ name }) => name);
  if (stuck.length > 0) {
    const nextSteps = [
      `gpuctl status`,
      `gpuctl repair --hosts ${stuck.join(",")}`,
      `gpuctl deploy --continue, to finish ${release} instead`,
    ];
    return { kind: "mixed", because, stuck, nextSteps };
  }
  const left = hosts.filter(({ state }) => state === "stuck").map(({ name }) => name);
  const clean =
    left.length === 0 ? [] : [`gpuctl repair --hosts ${left.join(",")}, when ${left.length === 1 ? "it is" : "they are"} back`];
  return {
    kind: "reverted",
    because,
    left,
    nextSteps: [`gpuctl logs${failure.host === null ? "" : ` --hosts ${failure.host}`}`, ...clean],
  };
}

/** What serves on a host, in the words of the table. */
export function hostVerdict({ state, touched, failure }: FleetHost): string {
  const why = failure === null ? "" : ` (${failure})`;
  switch (state) {
    case "waiting":
      return "untouched";
    case "switched":
      return "serves the new release";
    case "reverted":
      return `serves the old release${touched ? ", switched back" : ""}${why}`;
    case "stuck":
      return `${touched ? "not known what serves" : "serves the old release, the candidate was left there"}${why}`;
    case "preparing":
    case "ready":
    case "switching":
    case "reverting":
      return `${state}${why}`;
  }
}
