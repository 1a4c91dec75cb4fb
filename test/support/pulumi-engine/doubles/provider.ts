/** What a provider double is made of. */
import type { Properties } from "./values.js";

/** What one resource type does. Inputs and outputs come without marks of secrets. */
export interface ResourceKind {
  /** Inputs whose change replaces the resource. */
  replacedBy?: readonly string[] | ((before: Properties, after: Properties) => readonly string[]);
  /** Whether a replacement deletes the old one first. */
  deletesFirst?: (inputs: Properties) => boolean;
  /** Whether a preview of a change knows none of the outputs that are no inputs. */
  unknownWhenChanged?: boolean;
  /** Throws what the provider would refuse. */
  check?: (inputs: Properties) => void;
  create: (inputs: Properties, configuration: Properties) => Promise<Made>;
  /** The outputs that are new. Without it a change that does not replace is an error. */
  update?: (id: string, inputs: Properties, old: Old, configuration: Properties) => Promise<Properties>;
  /** Undefined when it is gone. Without it the state is taken as it is. */
  read?: (id: string, outputs: Properties, configuration: Properties) => Promise<Properties | undefined>;
  delete?: (id: string, outputs: Properties, configuration: Properties) => Promise<void>;
}

export interface Made {
  id: string;
  outputs?: Properties;
}

export interface Old {
  inputs: Properties;
  outputs: Properties;
}

export interface ProviderDouble {
  name: string;
  /** As the SDK that the program uses asks for it. */
  version: string;
  /** Undefined for a type that the double does not have. */
  kind: (type: string) => ResourceKind | undefined;
  /** The configuration as completed; throws what the provider would refuse of it. */
  configure?: (configuration: Properties) => Properties;
  invoke?: (token: string, args: Properties, configuration: Properties) => Promise<Properties>;
}

/** One request that did or asked something; what previews ask is not among them. */
export interface Call {
  provider: string;
  method: "cancel" | "configure" | "create" | "update" | "read" | "delete" | "invoke";
  type: string;
  name: string;
  id?: string;
  inputs?: Properties;
}

/** A resource that was made but not finished: the engine keeps it with its reason, and a later run mends or deletes it. */
export class Unfinished extends Error {
  readonly made: Made;

  constructor(made: Made, reason: string) {
    super(reason);
    this.made = made;
  }
}
