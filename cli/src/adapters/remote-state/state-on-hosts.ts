import type { Milliseconds } from "../../domain/units.js";
import type { Clock } from "../../ports.js";
import type { HostState } from "./host-state.js";
import type { OwnMachine } from "./lease-report.js";
import { MultiLeaseStore } from "./multi-lease-store.js";
import { RemoteAuditLog } from "./remote-audit-log.js";
import { RemoteLeaseStore } from "./remote-lease-store.js";
import { RemoteReleaseFiles } from "./remote-release-files.js";
import { ReplicatedReleaseStore, type HostUse } from "./replicated-release-store.js";

export interface StateOnHostsOptions {
  /** One for each node of the environment, not only those of one service: all of them keep the lease, the records and the audit. */
  hosts: readonly HostState[];
  /** `project/environment`, for error texts. */
  name: string;
  /** `user@host`, for leases and the audit. */
  owner: string;
  clock: Clock;
  /** `ownMachine()`; another one only in tests. */
  here: OwnMachine;
  pid?: number;
  heartbeat?: Milliseconds;
  /** What the command has to do with each host; with all of them by default. */
  use?: HostUse;
}

/** What a use case has of an environment that lives on hosts. */
export interface StateOnHosts {
  releases: ReplicatedReleaseStore;
  leases: MultiLeaseStore;
  audit: RemoteAuditLog;
}

/** Records, leases and audit over the same hosts, so that what is written goes by the lease that is held there. */
export function stateOnHosts({ hosts, name, owner, clock, use, ...process }: StateOnHostsOptions): StateOnHosts {
  const audit = new RemoteAuditLog(hosts, owner, clock, use?.isRead);
  const stores = hosts.map((host) => new RemoteLeaseStore({ host, name, owner, clock, audit, ...process }));
  return {
    releases: new ReplicatedReleaseStore(
      hosts.map((host) => new RemoteReleaseFiles(host)),
      use,
    ),
    leases: new MultiLeaseStore(stores, clock, use?.inUse),
    audit,
  };
}
