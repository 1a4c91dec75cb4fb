import type { InstanceSpec, Lease, TargetDriver } from "../../../cli/src/ports.js";
import type { ReleaseId, Slot } from "../../../cli/src/domain/names.js";
import type { ServiceSpec } from "../../../cli/src/domain/release.js";

/** One environment of a target, alone on its machine, for one contract test. Each target brings its own. */
export interface DriverWorld {
  driver: TargetDriver;
  /** Whether the manager is what listens for clients: while it is dead, nobody answers them. */
  readonly managerListens: boolean;
  /** A newer lease than every one before. */
  lease(): Promise<Lease>;
  /** A service that starts quickly and needs no model. */
  spec(settings?: Readonly<Record<string, string>>): ServiceSpec;
  /** One that exits while it loads. */
  brokenSpec(): ServiceSpec;
  /** Where clients reach a spec's service. */
  publicUrl(spec: ServiceSpec): string;
  /** Ends the manager without giving it a chance to say goodbye. */
  killManager(): Promise<void>;
  /** Ends an instance the same way, and returns when none of it is left. */
  killInstance(pid: number): Promise<void>;
  /** What is left of this environment: processes, sockets, listeners. */
  leftovers(): Promise<readonly string[]>;
  dispose(): Promise<void>;
}

export const releaseOf = (number: number): ReleaseId => `r${number}-${number.toString(16).padStart(8, "0")}`;

/** How a release's instance of a spec is started. */
export function instanceOf(spec: ServiceSpec, number: number, slot: Slot): InstanceSpec {
  const release = releaseOf(number);
  return { id: `${spec.service}-${release}-${slot}`, service: spec.service, release, slot, spec };
}
