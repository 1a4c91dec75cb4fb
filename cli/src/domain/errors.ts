/**
 * The one table of exit codes (`gpuctl help exit-codes` prints it, a test pins it).
 * 126 and below are ours to give; 127, 130 and 143 follow the shell's convention.
 */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  configInvalid: 3,
  targetUnreachable: 4,
  preflightRefused: 5,
  candidateFailed: 6,
  changesPending: 7,
  gateMissed: 8,
  targetMixed: 9,
  bug: 70,
  unknownCommand: 127,
  interrupted: 130,
  terminated: 143,
} as const;

export type ExitCodeName = keyof typeof exitCodes;

export interface ErrorDetails {
  /** Why it happened, one sentence without a final full stop. */
  because?: string;
  /** What belongs to it beyond a sentence, for people: a table, line by line. */
  lines?: readonly string[];
  /** What to type or do next; commands first. */
  nextSteps?: readonly string[];
  /** Machine-readable facts for `--json`. Never a secret. */
  data?: Record<string, unknown>;
  cause?: unknown;
}

/** An error a person can act on: what happened (message), why, what next. Anything else thrown is a bug (exit 70). */
export abstract class GpuctlError extends Error {
  abstract readonly exit: ExitCodeName;
  readonly because: string | undefined;
  readonly lines: readonly string[];
  readonly nextSteps: readonly string[];
  readonly data: Record<string, unknown> | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.because = details.because;
    this.lines = details.lines ?? [];
    this.nextSteps = details.nextSteps ?? [];
    this.data = details.data;
  }
}

/** The command could not do what was asked, for a reason no other class names. */
export class Failed extends GpuctlError {
  readonly exit = "failed";
}

/** The command line itself is wrong. */
export class UsageError extends GpuctlError {
  readonly exit = "usage";
}

/** gpuctl.yaml (or what it points at) is wrong, or asks for what this version cannot do. */
export class ConfigInvalid extends GpuctlError {
  readonly exit = "configInvalid";
}

/** The node, engine, keeper or service could not be reached. */
export class TargetUnreachable extends GpuctlError {
  readonly exit = "targetUnreachable";
}

/** A check before anything was touched said no: nothing has changed. */
export class PreflightRefused extends GpuctlError {
  readonly exit = "preflightRefused";
}

/** The candidate failed; the old release was kept or restored everywhere. */
export class CandidateFailed extends GpuctlError {
  readonly exit = "candidateFailed";
}

/** `plan --exit-code`: there is something to do. */
export class ChangesPending extends GpuctlError {
  readonly exit = "changesPending";
}

/** A benchmark or SLO gate was missed. */
export class GateMissed extends GpuctlError {
  readonly exit = "gateMissed";
}

/** Instances of two releases are left serving; the next command to type is in `nextSteps`. */
export class TargetMixed extends GpuctlError {
  readonly exit = "targetMixed";
}

/** SIGINT: leases were released, the old release keeps serving. */
export class Interrupted extends GpuctlError {
  readonly exit = "interrupted";
}
