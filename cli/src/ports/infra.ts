/** What gpuctl asks of the user's Pulumi, which is a program of its own: never linked, always a process. */
import type { SourceDocument } from "../domain/config/source.js";

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
  recorded(place: StackPlace, project: string, stack: string): Promise<unknown>;
}
