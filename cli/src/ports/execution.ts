/** Time, processes, and what is told while long work runs. */
import type { Phase } from "../domain/phases.js";
import type { ServiceName } from "../domain/names.js";
import type { Milliseconds } from "../domain/units.js";

export interface Clock {
  /** Wall clock, for people. Never used to order or to expire anything. */
  now(): Date;
  /** Milliseconds since boot, unaffected by changes of the date and comparable between processes of this machine. */
  monotonic(): Milliseconds;
  sleep(duration: Milliseconds, signal?: AbortSignal): Promise<void>;
}

/** A command as data: argv, never a shell string. */
export interface Command {
  argv: readonly [string, ...string[]];
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  /** Given on stdin; the way secrets travel. */
  input?: string;
  /** It changes nothing where it runs: a dry run runs it too. */
  looks?: true;
}

export interface CommandResult {
  /** Null when a signal ended it. Success is `code === 0` and nothing else. */
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

export interface ExecuteOptions {
  deadline: Milliseconds;
  signal?: AbortSignal;
  /** Called for each complete line as it arrives. */
  onLine?: (line: string, stream: "stdout" | "stderr") => void;
  /**
   * `kept` (the default) gives the output in the result and ends a command that writes more than 64 MiB; `lines` gives it to
   * `onLine` alone, without an end (`docker logs -f`), and in pieces of 1 MiB where a line does not end.
   */
  output?: "kept" | "lines";
  /** Time between SIGTERM and SIGKILL for one that has to be stopped: 2 s, or what it needs to leave things whole. */
  grace?: Milliseconds;
}

export interface Executor {
  /** Runs a command to its end. Throws TargetUnreachable when it cannot be started at all, Failed past the deadline. */
  run(command: Command, options: ExecuteOptions): Promise<CommandResult>;
}

/** What a use case tells while it works. Rendered on stderr; collected into `events` of the JSON document. */
export type ProgressEvent =
  | {
      kind: "phase";
      phase: Phase;
      state: "begin" | "end" | "skipped" | "failed";
      service?: ServiceName;
      detail?: string;
      elapsedMs?: number;
    }
  | { kind: "step"; text: string }
  | { kind: "amount"; label: string; done: number; total: number | null; unit: string; perSecond?: number; etaSeconds?: number }
  | { kind: "warning"; text: string };

export interface Progress {
  emit(event: ProgressEvent): void;
}

export type { Phase };
