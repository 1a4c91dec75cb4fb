/** What gpuctl asks of the user's Pulumi, which is a program of its own: never linked, always a process. */
import type { SourceDocument } from "../domain/config/source.js";
import type { Summary, Told } from "../domain/infra/events.js";
import type { Diagnostic, Preview } from "../domain/infra/preview.js";
import type { StackState } from "../domain/infra/state.js";

/** A Pulumi project on this machine. */
export interface StackPlace {
  /** Folder in which, or above which, Pulumi.yaml lies. */
  directory: string;
  /** Where Pulumi keeps state by gpuctl.yaml; null where gpuctl.yaml says nothing of it. */
  backend: string | null;
}

/** Inventories of stacks. */
export interface StackInventories {
  /**
   * The output `inventory` of a stack, as a document whose places can be named; null when the stack has none. Needs no passphrase.
   * Throws Failed when Pulumi or the stack is not there, naming what to type.
   */
  ofStack(place: StackPlace, stack: string): Promise<SourceDocument | null>;
  /**
   * The same as plain data from state that lies on this machine, without starting Pulumi; undefined where the state lies elsewhere or
   * says nothing of it.
   */
  recorded(place: StackPlace, stack: string): Promise<unknown>;
}

/** Failure of a command of Pulumi: what it said, to be explained. */
export interface PulumiFailure {
  /** Errors and warnings of the preview or the update, in the order in which they came. */
  said: readonly Diagnostic[];
  stderr: string;
}

/** What a command of Pulumi gave, or why it failed. Only its exit status decides which. */
export type PulumiOutcome<Value> = { ok: true; value: Value } | ({ ok: false } & PulumiFailure);

/** The project that Pulumi.yaml describes, and where its state is kept. */
export interface PulumiProject {
  name: string;
  /** Folder with Pulumi.yaml. */
  directory: string;
  /** Stacks that have a configuration file there. */
  configured: readonly string[];
  /** Where state lies, for people; without credentials. */
  backend: string;
  /** What Pulumi is given as PULUMI_BACKEND_URL, without credentials; null where it finds its backend by itself. */
  givenBackend: string | null;
  /** Whether gpuctl chose that, as nobody else did: files of this machine, secrets under a passphrase. */
  embedded: boolean;
  /** Platform of plugin files, such as `linux-amd64`. */
  platform: string;
}

/**
 * The user's `pulumi`. Each call is one process; a signal asks it to stop and waits until its running operations have ended, so that
 * its state is whole. Throws PreflightRefused when it is not installed or there is no project, and the signal's reason.
 */
export interface Pulumi {
  project(): Promise<PulumiProject>;
  /** What an update would do. Changes nothing. */
  preview(stack: string): Promise<PulumiOutcome<Preview>>;
  /** What a destroy would delete. */
  previewDestroy(stack: string, keepProtected: boolean): Promise<PulumiOutcome<Preview>>;
  /** Makes a stack that does not exist yet, empty. */
  create(stack: string): Promise<PulumiOutcome<null>>;
  /** Sets plain values of its configuration, by their paths such as `gpuctl:nodes.gpu-1.host`; the rest of the file stays. */
  configure(stack: string, values: Readonly<Record<string, string>>): Promise<PulumiOutcome<null>>;
  up(stack: string, tell: (told: Told) => void): Promise<PulumiOutcome<Summary>>;
  destroy(stack: string, keepProtected: boolean, tell: (told: Told) => void): Promise<PulumiOutcome<Summary>>;
  /** What the stack knows; needs no passphrase. */
  state(stack: string): Promise<PulumiOutcome<StackState>>;
  /** Outputs with their secrets in the clear; needs the passphrase. */
  outputs(stack: string): Promise<PulumiOutcome<Record<string, unknown>>>;
  /** Names of all stacks of the project. */
  stacks(): Promise<PulumiOutcome<readonly string[]>>;
}
