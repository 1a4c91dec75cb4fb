/** Every interface to the outside. Use cases see only these; `wiring.ts` picks the adapters. */
import type { EnvironmentConfig } from "./domain/config/resolved.js";
import type { Device, ProofLevel } from "./domain/names.js";
import type { NodeSummary } from "./domain/preflight/node-summary.js";
import type { Clock, Executor, Progress } from "./ports/execution.js";
import type { CodeSource, HttpClient, SecretReader } from "./ports/machine.js";
import type { ModelStore } from "./ports/models.js";
import type { AuditLog, LeaseStore, ReleaseStore } from "./ports/records.js";
import type { Nodes, TargetDriver } from "./ports/target-driver.js";

export type * from "./ports/documents.js";
export type * from "./ports/execution.js";
export type * from "./ports/load.js";
export type * from "./ports/machine.js";
export type * from "./ports/models.js";
export type * from "./ports/records.js";
export type * from "./ports/target-driver.js";
export type { HostConnector, RemoteHost, TransferOptions, Tunnel } from "./ports/remote-host.js";

/** Everything a use case of one environment may touch. */
export interface Context {
  config: EnvironmentConfig;
  driver: TargetDriver;
  releases: ReleaseStore;
  leases: LeaseStore;
  audit: AuditLog;
  models: ModelStore;
  code: CodeSource;
  secrets: SecretReader;
  http: HttpClient;
  executor: Executor;
  clock: Clock;
  progress: Progress;
  /** Aborted on SIGINT and SIGTERM. */
  signal: AbortSignal;
  /** `user@host`, for records, leases and the audit. */
  author: string;
  gpuctlVersion: string;
  /** On targets of nodes. */
  nodes?: Nodes;
  /** On targets of nodes: what this process has seen of them so far. */
  nodesSeen?(): readonly NodeSummary[];
  /**
   * On targets of nodes: a way to a port that a node answers on for itself only, as a base address on this machine. It stays open until
   * the command ends.
   */
  tunnelTo?(node: string, port: number): Promise<string>;
  /** Ends connections that the adapters hold; absent where there are none. */
  close?(): Promise<void>;
}

export type { Device, ProofLevel };
