import { Failed } from "../../../domain/errors.js";
import { deviceKinds, type Device, type InstanceId } from "../../../domain/names.js";
import type { HttpResponse, InstanceHealth, InstanceProcess } from "../../../ports.js";

/** Understands the body of `/health`; the status code says the same (503 while it is not serving). */
export function healthOf(response: HttpResponse): InstanceHealth {
  const body = (typeof response.body === "object" && response.body !== null ? response.body : {}) as Readonly<
    Record<string, unknown>
  >;
  const text = (value: unknown): string | null => (typeof value === "string" && value !== "" ? value : null);
  const status = body["status"];
  const device = body["device"];
  const known = status === "healthy" || status === "degraded" || status === "loading" || status === "failed";
  return {
    status: known ? status : "failed",
    device: deviceKinds.includes(device as Device) ? (device as Device) : null,
    model: text(body["model"]),
    fallback: body["fallback"] === true,
    reason: text(body["reason"]) ?? (known ? null : `/health answered ${response.status.toString()} without a known status`),
  };
}

/** Why an instance that should run does not, with the reason from its own log. */
export function notRunning(id: InstanceId, process: InstanceProcess | null, tail: readonly string[]): Failed {
  const reason = loadFailure(tail);
  const because = [ended(process), ...(reason === null ? [] : [reason])].join(": ");
  return new Failed(`${id} is not running`, {
    because,
    nextSteps: ["gpuctl logs", "gpuctl status"],
    data: { instance: id, reason, logTail: [...tail] },
  });
}

function ended(process: InstanceProcess | null): string {
  switch (process?.state) {
    case "exited":
      if (process.signal !== null) return `it was ended by signal ${process.signal}`;
      return process.code === null ? "its process is gone" : `it exited with status ${process.code.toString()}`;
    case "stopped-by-reboot":
      return "the machine was rebooted";
    case "stopped":
      return "it was stopped";
    default:
      return "it was never started here";
  }
}

/** The reason in the last `load-failed` line of a log. */
export function loadFailure(tail: readonly string[]): string | null {
  for (const line of [...tail].reverse()) {
    try {
      const entry = JSON.parse(line) as Partial<Record<string, unknown>> | null;
      if (entry?.["event"] === "load-failed" && typeof entry["reason"] === "string") return entry["reason"];
    } catch {
      // Not every line of a dying process is JSON.
    }
  }
  return null;
}
