import type { LeaseHolder } from "../../ports.js";
import { isRunning, type ProcessTable } from "../state/process-identity.js";

/** Who took a lease, as the lease file says it: for people, and for the machine it was taken on. */
export interface LeaseTaker {
  owner: string;
  pid: number;
  startTime: number;
  /** Boot id and process namespace of the operator's machine: within one of these a pid with its start time means one process. */
  machine: string;
  command: string;
  /** ISO 8601 by the operator's clock; for people only. */
  since: string;
}

export type Verdict = "seen" | "taken" | "mine" | "held" | "none" | "again" | "kept" | "lost";

/** What a script said about the newest lease of a host. */
export interface LeaseReport {
  verdict: Verdict;
  /** 0 when there never was a lease. */
  token: number;
  /** By the node's boot id and clock. */
  state: LeaseHolder["state"] | "none";
  /** Seconds since the newest heartbeat, by the node's clock. */
  silent: number;
  nonce: string;
  taker: LeaseTaker;
  /** Token that was just taken. */
  took: number | null;
}

const nobody: LeaseTaker = { owner: "unknown", pid: 0, startTime: 0, machine: "", command: "unknown", since: "" };

/** Reads a report. A lease whose taker cannot be read still holds its token. Null when the report is no report. */
export function parseLeaseReport(text: string): LeaseReport | null {
  const lines = new Map<string, string>();
  for (const line of text.split("\n")) {
    const space = line.indexOf(" ");
    if (space > 0) lines.set(line.slice(0, space), line.slice(space + 1));
  }
  const verdict = lines.get("verdict");
  const token = Number(lines.get("token"));
  if (verdict === undefined || !Number.isSafeInteger(token)) return null;
  return {
    verdict: verdict as Verdict,
    token,
    state: lines.get("state") as LeaseReport["state"],
    silent: Number(lines.get("silent")),
    nonce: lines.get("nonce") ?? "",
    taker: takerOf(lines.get("entry")),
    took: lines.has("took") ? Number(lines.get("took")) : null,
  };
}

function takerOf(text: string | undefined): LeaseTaker {
  try {
    const value = JSON.parse(text ?? "") as Partial<LeaseTaker> | null;
    return typeof value === "object" && value !== null ? { ...nobody, ...value } : nobody;
  } catch {
    return nobody;
  }
}

/** The processes of this machine, and what tells this machine from every other. */
export interface OwnMachine {
  id: string;
  processes: ProcessTable;
}

/**
 * The state of a lease as this machine sees it: one taken here by a process that has ended is gone at once. Of a holder on
 * another machine nothing is known but its heartbeat.
 */
export function stateSeenFrom(here: OwnMachine, { state, taker }: LeaseReport): LeaseReport["state"] {
  const endedHere = state === "live" && taker.machine === here.id && !isRunning(here.processes, taker);
  return endedHere ? "gone" : state;
}

/** The holder in the port's words; null when there never was a lease. */
export function holderOf(here: OwnMachine, report: LeaseReport): LeaseHolder | null {
  const state = stateSeenFrom(here, report);
  if (state === "none") return null;
  const { owner, pid, command, since } = report.taker;
  return { token: report.token, owner, pid, command, since, state };
}

export const describeTaker = ({ owner, command, pid, since }: LeaseTaker): string =>
  `${owner} running \`gpuctl ${command}\` (pid ${pid}, since ${since})`;
