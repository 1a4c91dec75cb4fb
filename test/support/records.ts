import type { ReleaseId } from "../../cli/src/domain/names.js";
import type { ReleaseRecord, ServiceSpec } from "../../cli/src/domain/release.js";

const hash = (digit: string): string => digit.repeat(64);

/** A complete spec of a service with a model, different in what a test says. */
export function specFor(changes: Partial<ServiceSpec> = {}): ServiceSpec {
  return {
    service: "embedder",
    code: { wheel: hash("a"), file: "gpuctl_serving-0.1.0-py3-none-any.whl", version: "0.1.0" },
    python: { lock: hash("b") },
    model: null,
    device: { prefer: "auto", require: null, proof: "self" },
    env: { GPUCTL_DEVICE: "auto" },
    secrets: {},
    listen: { host: "127.0.0.1", port: 8001 },
    ...changes,
  };
}

/** A release record of one service. */
export function recordOf(number: number, changes: Partial<ReleaseRecord> = {}): ReleaseRecord {
  const id: ReleaseId = `r${number}-${number.toString(16).padStart(8, "0")}`;
  return {
    schemaVersion: 1,
    id,
    number,
    project: "demo",
    environment: "local",
    target: "process",
    services: { embedder: { spec: specFor(), fingerprint: hash("c"), since: id, slot: "a", peakMiB: null, proof: null } },
    parent: null,
    rollbackOf: null,
    author: "ada@lab",
    createdAt: "2026-03-01T12:00:00.000Z",
    gpuctl: "0.1.0",
    state: "candidate",
    gates: [],
    failure: null,
    finishedAt: null,
    ...changes,
  };
}
