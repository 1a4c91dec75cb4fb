import type { InstanceId } from "../names.js";
import { checkIntervalMs } from "./proxy-route.js";

/**
 * Whether an instance wants public requests: `open`, or no longer (`paused`: warm for a rollback), or not yet (`closed`: a candidate).
 * It is a file on the host, so it survives restarts of Caddy, Docker and the host. To Caddy paused and closed are the same.
 *
 * An instance takes public connections only while its gate is open, and for `lingerMs` after: a Caddy that was just started
 * takes every place for usable until its first check, and sends requests to those that it can connect to.
 */
export const gates = ["open", "paused", "closed"] as const;
export type Gate = (typeof gates)[number];

/** How long a paused instance still takes connections, so that Caddy hears its 503 instead of losing requests on the way. */
export const lingerMs = 5000;

/** What the gate's file says. */
export const gateText = (gate: Gate): string => `${gate}\n`;

/** How long a host is up, whole seconds, and whether that is still the boot in which a gate was set. */
export interface HostTime {
  uptime: number;
  sameBoot: boolean;
}

/**
 * A gate that is missing, empty or half written is closed: nothing unproven gets traffic by accident. One of an instance that makes
 * room is shut `until` an uptime of its host (`paused until 4711`): from then on, and after a reboot, it means open, so that
 * nobody needs to be there to open it. An instance reads it alike, and takes its own start for a reboot.
 */
export function readGate(text: string | null, now: HostTime): Gate {
  const [, word, until] = /^([a-z]+)(?: until (\d{1,12}))?$/.exec(text?.trim() ?? "") ?? [];
  const gate = gates.find((known) => known === word) ?? "closed";
  if (gate === "closed" && word !== "closed") return gate;
  return until !== undefined && (!now.sameBoot || now.uptime >= Number(until)) ? "open" : gate;
}

/** One instance in a slot, as far as moving traffic cares. The CPU instance has no part in it: it stands open behind both slots. */
export interface GateState {
  id: InstanceId;
  gate: Gate;
  /** Its address in the proxy, such as `embedder-a:8001`. */
  upstream: string;
}

/** One thing to do, or to wait for, while traffic moves. */
export type SwitchStep =
  /** Write the gate's file. */
  | { kind: "set-gate"; id: InstanceId; gate: Gate }
  /** `docker update --restart`: only what serves comes back by itself. */
  | { kind: "set-restart"; id: InstanceId; policy: "always" | "no" }
  /** Until every listener of the proxy has asked the instance and got this answer. */
  | { kind: "await-checked"; id: InstanceId; open: boolean; checkers: readonly string[] }
  /** Until the proxy counts no request in flight to it. */
  | { kind: "await-idle"; id: InstanceId; upstream: string };

/** Lets an instance take public requests. Done again, it changes nothing. */
export function openSteps({ id }: Pick<GateState, "id">, checkers: readonly string[]): readonly SwitchStep[] {
  return [
    { kind: "set-restart", id, policy: "always" },
    { kind: "set-gate", id, gate: "open" },
    { kind: "await-checked", id, open: true, checkers },
  ];
}

/** Takes an instance out of traffic and waits for what it still answers. It stays warm, and does not come back by itself. */
export function closeSteps(found: Omit<GateState, "gate">, checkers: readonly string[]): readonly SwitchStep[] {
  const { id } = found;
  return [{ kind: "set-gate", id, gate: "paused" }, ...drainSteps(found, checkers), { kind: "set-restart", id, policy: "no" }];
}

/** Waits for what an instance still answers whose gate is no longer open. */
export function drainSteps({ id, upstream }: Omit<GateState, "gate">, checkers: readonly string[]): readonly SwitchStep[] {
  return [
    { kind: "await-checked", id, open: false, checkers },
    { kind: "await-idle", id, upstream },
  ];
}

/**
 * Moves the traffic of one service to an instance, from whatever was found: opened before anything is closed. From a state that
 * an interrupted switch left behind it does what is missing, and nothing when all is done; a revert is the same the other way round.
 * @param found     every instance of the service in a slot, the new one included
 * @param to        the instance that shall take all requests; null takes the service out of traffic
 * @param checkers  the proxy's listeners for the service (`checkersOf`)
 */
export function switchSteps(
  found: readonly GateState[],
  to: InstanceId | null,
  checkers: readonly string[],
): readonly SwitchStep[] {
  const others = found.filter(({ id, gate }) => id !== to && gate === "open");
  const wanted = found.find(({ id }) => id === to);
  const opened = to === null || (wanted?.gate === "open" && others.length === 0) ? [] : openSteps({ id: to }, checkers);
  return [...opened, ...others.flatMap((other) => closeSteps(other, checkers))];
}

/** What an instance says about its gate: whether it is open, and what each listener of the proxy was told last. */
export interface TrafficView {
  open: boolean;
  told: Readonly<Record<string, boolean>>;
}

/**
 * Reads the part of `GET /private/status` that is about the gate, `{"gate": "open", "checks": {"embedder-public": "open"}}`; null when it
 * says nothing of it.
 */
export function readTrafficView(status: unknown): TrafficView | null {
  const { gate, checks } = (status ?? {}) as { gate?: unknown; checks?: unknown };
  if (!gates.some((known) => known === gate)) return null;
  const entries = typeof checks === "object" && checks !== null ? Object.entries(checks) : [];
  const told = entries.flatMap(([checker, said]: [string, unknown]) => {
    const open = typeof said === "boolean" ? said : gates.some((known) => known === said) ? said === "open" : null;
    return open === null ? [] : [[checker, open] as const];
  });
  return { open: gate === "open", told: Object.fromEntries(told) };
}

/** Longest a listener takes to notice a gate when nobody can tell: two intervals and the time of a check (2 s) beyond them. */
export const surelyCheckedMs = 2 * checkIntervalMs + 2000;

/** Whether `await-checked` is fulfilled: by what the instance answered, or by time when it cannot say. */
export function isChecked(
  step: Extract<SwitchStep, { kind: "await-checked" }>,
  view: TrafficView | null,
  elapsedMs: number,
): boolean {
  if (view === null) return elapsedMs >= surelyCheckedMs;
  return view.open === step.open && step.checkers.every((checker) => view.told[checker] === step.open);
}

/** The line of a dry run for one step. */
export function describeStep(step: SwitchStep): string {
  switch (step.kind) {
    case "set-gate":
      return `gate      ${step.id}: ${step.gate}`;
    case "set-restart":
      return `restart   ${step.id}: ${step.policy === "no" ? "not by itself" : "always"}`;
    case "await-checked":
      return `wait      until ${step.checkers.join(" and ")} saw ${step.id} ${step.open ? "open" : "closed"}`;
    case "await-idle":
      return `wait      until ${step.upstream} has no request in flight`;
  }
}
