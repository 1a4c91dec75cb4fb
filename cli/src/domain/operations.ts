import type { InstanceId, ManagerName, ReleaseId, ServiceName, Slot } from "./names.js";
import type { ServiceSpec } from "./release.js";
import type { VectorSpace } from "./spec.js";
import { standByLine, type StandByOperation } from "./standby.js";

/** One instance to be: what is started, in which slot, under the id of the release that introduced its spec. */
export interface PlannedInstance {
  id: InstanceId;
  service: ServiceName;
  release: ReleaseId;
  slot: Slot;
  spec: ServiceSpec;
}

/** Puts back what should already be true of the current release. */
export type DriftOperation =
  | { kind: "copy-records"; nodes: readonly string[]; because: string }
  | { kind: "settle"; release: ReleaseId; verdict: "finish" | "fail"; because: string }
  /** `runs`: it only has to take over other settings; `restarts`: what of it is made anew for that; `beside`: it is right itself. */
  | { kind: "ensure-manager"; manager?: ManagerName; because: string; runs?: true; restarts?: readonly string[]; beside?: true }
  | { kind: "restage"; service: ServiceName; spec: ServiceSpec; because: string }
  | { kind: "move-writer"; service: "index"; from: InstanceId | null; to: InstanceId; because: string }
  | { kind: "reopen"; service: ServiceName; id: InstanceId; because: string }
  | { kind: "restart"; service: ServiceName; instance: PlannedInstance; because: string }
  | { kind: "withdraw"; service: ServiceName; id: InstanceId; nodes: readonly string[]; because: string }
  | { kind: "retire"; service: ServiceName; id: InstanceId; open: boolean; because: string }
  | { kind: "discard"; service: ServiceName; id: InstanceId; open: boolean; because: string }
  | StandByOperation;

/** Moves the environment from the current release to the next. */
export type RolloutOperation =
  | { kind: "free-slot"; service: ServiceName; id: InstanceId; slot: Slot }
  | { kind: "stop-first"; service: ServiceName; id: InstanceId }
  | { kind: "start"; service: ServiceName; instance: PlannedInstance; because: readonly string[] }
  | { kind: "reuse"; service: ServiceName; instance: PlannedInstance; because: readonly string[] }
  | { kind: "build-generation"; service: "index"; writer: InstanceId | null; embedder: InstanceId; space: VectorSpace }
  | { kind: "hand-over"; service: "index"; from: InstanceId | null; to: InstanceId }
  | { kind: "open"; service: ServiceName; id: InstanceId }
  | { kind: "close"; service: ServiceName; id: InstanceId; keepWarmMs: number }
  | { kind: "stop-dead"; service: ServiceName; id: InstanceId };

export type Operation = DriftOperation | RolloutOperation;

function managerChange({ runs, restarts, beside }: Extract<DriftOperation, { kind: "ensure-manager" }>): string {
  if (runs !== true) return "start it";
  if (beside === true) return "start what belongs beside it";
  return restarts === undefined ? "tell it its settings" : "make it anew";
}

/** What making listeners anew means for whoever connects to them. @param restarts  such as `proxy of gpu-1`; not empty */
export function restartText(restarts: readonly string[]): string {
  const [first = "", ...more] = restarts.map((each) => `the ${each}`);
  return more.length === 0
    ? `${first} restarts: connections are refused for about a second`
    : `${[first, ...more].join(", ")} restart, one host after the other: at each connections are refused for about a second`;
}

/** The line of a plan for one operation. What is printed here is the value that is executed. */
export function describeOperation(operation: Operation): string {
  switch (operation.kind) {
    case "copy-records":
      return `records   to ${operation.nodes.join(", ")} (${operation.because})`;
    case "settle":
      return `settle    ${operation.release}: ${operation.verdict === "finish" ? "finish it" : "give it up"} (${operation.because})`;
    case "ensure-manager":
      return `${(operation.manager ?? "keeper").padEnd(9)} ${managerChange(operation)} (${operation.because})`;
    case "restage":
      return `stage     ${operation.service} again (${operation.because})`;
    case "move-writer":
      return `writer    ${operation.from ?? "nobody"} -> ${operation.to} (${operation.because})`;
    case "reopen":
      return `open      ${operation.id} (${operation.because})`;
    case "restart":
      return `restart   ${operation.instance.id} (${operation.because})`;
    case "withdraw":
      return `withdraw  ${operation.id} from ${operation.nodes.join(", ")} (${operation.because})`;
    case "retire":
      return `retire    ${operation.id} (${operation.because})`;
    case "discard":
      return `stop      ${operation.id} (${operation.because})`;
    case "stand-by":
      return standByLine(operation);
    case "free-slot":
      return `stop      ${operation.id} (warm until now; slot ${operation.slot} is needed)`;
    case "stop-first":
      return `stop      ${operation.id} first (no memory for both), kept ready to start again`;
    case "start":
      return `start     ${operation.instance.id} in slot ${operation.instance.slot}`;
    case "reuse":
      return `reuse     ${operation.instance.id} (still warm)`;
    case "build-generation":
      return `vectors   build ${operation.space.generation} (${operation.space.dimension} dimensions)`;
    case "hand-over":
      return operation.from === null
        ? `writer    ${operation.to} takes the index`
        : `writer    ${operation.from} -> ${operation.to}`;
    case "open":
      return `open      ${operation.id}`;
    case "close":
      return operation.keepWarmMs > 0
        ? `close     ${operation.id}, warm for ${Number((operation.keepWarmMs / 60_000).toFixed(1))} min after the soak`
        : `close     ${operation.id}, then stop it`;
    case "stop-dead":
      return `stop      ${operation.id} (it had ended; it must not come back)`;
  }
}
