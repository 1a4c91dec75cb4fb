import { at, parseJson } from "../preflight/json-value.js";

/** What Docker says about containers, read tolerantly from `docker inspect`, `docker ps` and `docker compose ps`. */

/** Words of Docker for what a container does; an unknown one reads as `unknown`. */
export const containerStates = ["created", "running", "paused", "restarting", "removing", "exited", "dead"] as const;
export type ContainerState = (typeof containerStates)[number] | "unknown";

/** A container as one of Docker's listings shows it. Null is what that listing does not say. */
export interface ContainerFacts {
  /** As long as the listing gives it: 64 hex digits, or the first 12. */
  id: string;
  name: string;
  /** The image's id or reference, whichever is listed. */
  image: string | null;
  state: ContainerState;
  labels: Readonly<Record<string, string>>;
  health: "starting" | "healthy" | "unhealthy" | null;
  pid: number | null;
  exitCode: number | null;
  outOfMemory: boolean | null;
  restarts: number | null;
  restartPolicy: string | null;
  /** Epoch milliseconds. */
  startedAt: number | null;
  finishedAt: number | null;
  /** Docker's own words when it could not start it. */
  error: string | null;
}

/** Reads `docker inspect CONTAINER…` (a JSON list); null when it is none. Entries without an id are left out. */
export function readInspect(text: string): readonly ContainerFacts[] | null {
  const parsed = parseJson(text);
  return Array.isArray(parsed) ? parsed.flatMap((entry: unknown) => readInspected(entry) ?? []) : null;
}

function readInspected(entry: unknown): ContainerFacts | null {
  const id = text(at(entry, "Id"));
  if (id === null) return null;
  return {
    id,
    name: (text(at(entry, "Name")) ?? "").replace(/^\//, ""),
    image: text(at(entry, "Image")),
    state: stateOf(at(entry, "State", "Status")),
    labels: labelMap(at(entry, "Config", "Labels")),
    health: healthOf(at(entry, "State", "Health", "Status")),
    pid: positive(at(entry, "State", "Pid")),
    exitCode: whole(at(entry, "State", "ExitCode")),
    outOfMemory: truth(at(entry, "State", "OOMKilled")),
    restarts: whole(at(entry, "RestartCount")),
    restartPolicy: text(at(entry, "HostConfig", "RestartPolicy", "Name")),
    startedAt: time(at(entry, "State", "StartedAt")),
    finishedAt: time(at(entry, "State", "FinishedAt")),
    error: text(at(entry, "State", "Error")),
  };
}

/**
 * Reads `docker ps --all --no-trunc --format json` and `docker compose ps --all --format json`: a JSON object a line, or one list
 * (older Compose). Lines that cannot be read are left out; the listings know neither pid nor restarts.
 */
export function readListing(output: string): readonly ContainerFacts[] {
  const whole = parseJson(output);
  const entries: readonly unknown[] = Array.isArray(whole) ? whole : output.split("\n").map(parseJson);
  return entries.flatMap((entry) => readListed(entry) ?? []);
}

function readListed(entry: unknown): ContainerFacts | null {
  const id = text(at(entry, "ID"));
  if (id === null) return null;
  const status = text(at(entry, "Status")) ?? "";
  const exited = /^Exited \((\d+)\)/.exec(status)?.[1];
  return {
    id,
    name: (text(at(entry, "Names")) ?? text(at(entry, "Name")) ?? "").split(",")[0] ?? "",
    image: text(at(entry, "Image")),
    state: stateOf(at(entry, "State")),
    labels: joinedLabels(at(entry, "Labels")),
    health: healthOf(at(entry, "Health")) ?? healthIn(status),
    pid: null,
    exitCode: exited === undefined ? whole(at(entry, "ExitCode")) : Number(exited),
    outOfMemory: null,
    restarts: null,
    restartPolicy: null,
    startedAt: null,
    finishedAt: null,
    error: null,
  };
}

/** `Up 3 hours (healthy)`, `Up 2 seconds (health: starting)`. */
function healthIn(status: string): ContainerFacts["health"] {
  return healthOf(/\((?:health: )?(starting|healthy|unhealthy)\)$/.exec(status)?.[1]);
}

/** `a=1,b=2`. A comma inside of a value cannot be told from one between two; ours have none. */
function joinedLabels(value: unknown): Record<string, string> {
  if (typeof value !== "string") return labelMap(value);
  const pairs = value.split(",").filter((pair) => pair.includes("="));
  return Object.fromEntries(pairs.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]));
}

function labelMap(value: unknown): Record<string, string> {
  if (typeof value !== "object" || value === null) return {};
  return Object.fromEntries(Object.entries(value).filter((pair): pair is [string, string] => typeof pair[1] === "string"));
}

function stateOf(value: unknown): ContainerState {
  return containerStates.find((state) => state === value) ?? "unknown";
}

function healthOf(value: unknown): ContainerFacts["health"] {
  return value === "starting" || value === "healthy" || value === "unhealthy" ? value : null;
}

/** Go's zero time stands for never. Digits beyond milliseconds are cut. */
function time(value: unknown): number | null {
  if (typeof value !== "string" || value.startsWith("0001-")) return null;
  const parsed = Date.parse(value.replace(/(\.\d{3})\d+/, "$1"));
  return Number.isNaN(parsed) ? null : parsed;
}

const text = (value: unknown): string | null => (typeof value === "string" && value !== "" ? value : null);
const whole = (value: unknown): number | null => (typeof value === "number" && Number.isInteger(value) ? value : null);
const positive = (value: unknown): number | null => (typeof value === "number" && value > 0 ? whole(value) : null);
const truth = (value: unknown): boolean | null => (typeof value === "boolean" ? value : null);
