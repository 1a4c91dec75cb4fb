import type { InstanceId, ReleaseId, ServiceName, Sha256 } from "../names.js";
import type { ContainerFacts } from "./container-output.js";
import { readLabels } from "./labels.js";
import type { HostSlot } from "./names.js";
import type { Gate } from "./traffic.js";

/** What is known of an instance beside its container. */
export interface Surroundings {
  gate: Gate;
  /** When the host was booted, epoch milliseconds (`btime` of /proc/stat); null when unknown. */
  bootedAt: number | null;
  /** Requests in flight to its place, by the proxy; null when it cannot be asked. */
  inflight: number | null;
  /** When it will be stopped, milliseconds from now; null when that is not planned. */
  stopsInMs: number | null;
}

/** An instance on a host: what every target reports, and what only containers have. */
export interface ContainerObservation {
  id: InstanceId;
  service: ServiceName;
  release: ReleaseId;
  slot: HostSlot;
  process:
    | { state: "running"; pid: number }
    | { state: "exited"; code: number | null; signal: string | null }
    | { state: "stopped-by-reboot" }
    | { state: "stopped" };
  traffic: "open" | "paused" | "closed";
  restarts: number;
  inflight: number | null;
  stopsInMs: number | null;
  container: string;
  /** Fingerprint of the spec that the container was made from. */
  fingerprint: Sha256;
  health: ContainerFacts["health"];
  /** A person's words for why it does not run, or null. */
  ended: string | null;
}

/** Reads a container as an instance; null when it is none of ours. Nothing is concluded from what Docker did not say. */
export function observeContainer(facts: ContainerFacts, around: Surroundings): ContainerObservation | null {
  const labels = readLabels(facts.labels);
  if (labels === null) return null;
  const process = processOf(facts, around);
  const running = process.state === "running";
  return {
    id: labels.instance,
    service: labels.service,
    release: labels.release,
    slot: labels.slot,
    process,
    // What ended behind an open gate is still `open`: Docker is bringing it back, and it will take requests.
    traffic: running || around.gate === "open" ? around.gate : "closed",
    restarts: facts.restarts ?? 0,
    inflight: running ? around.inflight : null,
    stopsInMs: running ? around.stopsInMs : null,
    container: facts.id,
    fingerprint: labels.fingerprint,
    health: running ? facts.health : null,
    ended: running ? null : whyEnded(facts, process),
  };
}

function processOf(facts: ContainerFacts, around: Surroundings): ContainerObservation["process"] {
  switch (facts.state) {
    case "running":
    case "paused":
      // `docker ps` knows no pid; the pid of what runs is then asked for by `docker inspect`.
      return { state: "running", pid: facts.pid ?? 0 };
    case "created":
    case "removing":
      return { state: "stopped" };
    default:
      return startedBeforeBoot(facts, around) ? { state: "stopped-by-reboot" } : exited(facts);
  }
}

/** It served, the host went down, and nothing brought it back: neither its end nor a person's `docker stop`. */
function startedBeforeBoot({ startedAt }: ContainerFacts, { bootedAt, gate }: Surroundings): boolean {
  return gate === "open" && bootedAt !== null && startedAt !== null && startedAt < bootedAt;
}

/** Statuses above 128 are 128 + signal, as every shell has it. */
function exited({ exitCode, outOfMemory }: ContainerFacts): ContainerObservation["process"] {
  const signal = outOfMemory === true ? "SIGKILL" : signalOf(exitCode);
  return { state: "exited", code: signal === null ? exitCode : null, signal };
}

const signals: Readonly<Record<number, string>> = { 6: "SIGABRT", 7: "SIGBUS", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM" };
const signalOf = (code: number | null): string | null => (code === null ? null : (signals[code - 128] ?? null));

function whyEnded(facts: ContainerFacts, process: ContainerObservation["process"]): string {
  if (facts.error !== null) return `Docker could not start it: ${facts.error.replaceAll(/\s+/g, " ").slice(0, 240)}`;
  if (facts.outOfMemory === true) return "it needed more memory than its container may have and was killed";
  switch (process.state) {
    case "stopped-by-reboot":
      return "stopped by reboot";
    case "exited":
      if (facts.state === "restarting") return "it ends again and again, and Docker waits before it tries once more";
      return process.signal === null ? `it ended with status ${process.code ?? "unknown"}` : `it was ended by ${process.signal}`;
    default:
      return "it was not started";
  }
}
