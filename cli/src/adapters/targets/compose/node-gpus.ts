import type { ServiceSpec } from "../../../domain/release.js";
import type { ReservedGpu } from "./device-witness.js";
import type { GivenGpu } from "./host-memory.js";

/** Which GPUs of a node services are given. Asked when it matters: a node that computes on its CPU is never looked at for them. */
export interface NodeGpus {
  /** CDI name of the GPU that a service is given; null for a CPU. */
  of(spec: ServiceSpec): Promise<string | null>;
  /** UUIDs of that GPU, as drivers list what is on it; null for a CPU. */
  reserved(spec: ServiceSpec): Promise<ReservedGpu | null>;
  /** All that services are given here; none on a node that computes on its CPU. */
  given(): Promise<readonly GivenGpu[]>;
}
