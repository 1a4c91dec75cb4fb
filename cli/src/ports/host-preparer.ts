import type { Milliseconds } from "../domain/units.js";

/** How one run of the script ended: its exit status, null for a signal. */
export interface ScriptExit {
  code: number | null;
  /** What it said beside its log, the last lines. */
  said: string;
}

/**
 * Prepares the hosts of an environment with one script over SSH. Everything throws TargetUnreachable when the host cannot be reached
 * or the connection is lost: the script goes on without it, and the next run waits for its end.
 */
export interface HostPreparer {
  /** SHA-256 (hex) of the script that this gpuctl carries. */
  script(): Promise<string>;
  /** Brings the script onto the host and runs it with values on its stdin; its log comes line by line. */
  run(
    node: string,
    job: { mode: "prepare" | "upgrade"; values: string; onLine: (line: string) => void },
    signal: AbortSignal,
  ): Promise<ScriptExit>;
  /** The document that the script on the host prints of its present state; null on a host that has none. */
  check(node: string, signal: AbortSignal): Promise<string | null>;
  /** The result that the last run left; null when there is none. */
  result(node: string, signal: AbortSignal): Promise<string | null>;
  /** The last lines of the script's log and of apt's. */
  logTail(node: string, signal: AbortSignal): Promise<readonly string[]>;
  /** Names of running containers that belong to releases, of any project; none where Docker is not there, null where it does not say. */
  serving(node: string, signal: AbortSignal): Promise<readonly string[] | null>;
  /** Another one after every start of the host. Makes a new connection, within the deadline. */
  bootId(node: string, deadline: Milliseconds, signal: AbortSignal): Promise<string>;
}

/** How a host is to be reached, as `gpuctl host add` is told. */
export interface NewNode {
  name: string;
  host: string;
  user?: string | undefined;
  port?: number | undefined;
  identityFile?: string | undefined;
}

/** A key that a host shows to everybody who asks. */
export interface ShownKey {
  type: string;
  /** `SHA256:…` */
  fingerprint: string;
  /** The public key, base64. */
  key: string;
}

/** Host keys of hosts that are not in the project yet. */
export interface HostKeys {
  /** What the host shows, and whether known_hosts has one of these keys. Throws TargetUnreachable when it has another, or nothing answers. */
  look(node: NewNode, signal: AbortSignal): Promise<{ shown: readonly ShownKey[]; known: boolean; file: string }>;
  /** Writes a key into known_hosts, as ssh would. */
  remember(node: NewNode, key: ShownKey, signal: AbortSignal): Promise<void>;
}

/** Text files that a person named. */
export interface TextFiles {
  /** Throws UsageError when it cannot be read. */
  read(path: string): Promise<string>;
  /** Replaces a file that still has the text that was read, whole or not at all. Throws Failed. */
  replace(path: string, before: string, after: string): Promise<void>;
}
