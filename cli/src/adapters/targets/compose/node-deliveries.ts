import type { EnvironmentConfig } from "../../../domain/config/resolved.js";
import { GpuctlError } from "../../../domain/errors.js";
import type { NodeFacts } from "../../../domain/preflight/facts.js";
import type { Load } from "../../../domain/preflight/needs-of.js";
import type { ModelStore } from "../../../ports.js";
import type { NodeWants, NodeLoads } from "../../../ports/node-inspector.js";
import { imagesToBring, modelRoom, type DeliveryParts } from "./deliveries.js";
import type { HostCommands } from "./host-commands.js";
import type { ImageSource } from "./images.js";

export interface NodeDeliveriesOptions {
  config: EnvironmentConfig;
  commandsOf(node: string): HostCommands;
  models: Pick<ModelStore, "resolve">;
  /** Pinned image of the services for a device; null when none is known. */
  servicesImage(device: "cpu" | "cuda"): Promise<string | null>;
  /** Images of what stands beside the services. */
  companions: readonly string[];
  source(reference: string): ImageSource;
  fetching: DeliveryParts["fetching"];
}

/** What the next deploy would bring to nodes, counted as its preflight counts it. */
export class NodeDeliveries implements NodeLoads {
  readonly #options: NodeDeliveriesOptions;

  constructor(options: NodeDeliveriesOptions) {
    this.#options = options;
  }

  async of(node: string, wants: NodeWants, facts: NodeFacts): Promise<Load | null> {
    // What lies on a node is asked as root, of an engine that answers: without either that is a finding already.
    if (facts.docker.state !== "reachable" || facts.access.root.by === "none") return null;
    try {
      const commands = this.#options.commandsOf(node);
      const [images, modelBytes] = [await this.#images(commands, wants, facts), await this.#models(commands, wants)];
      return { ...images, modelBytes };
    } catch (error) {
      if (!(error instanceof GpuctlError)) throw error;
      return null;
    }
  }

  async #images(
    commands: HostCommands,
    { devices }: NodeWants,
    { system }: NodeFacts,
  ): Promise<Pick<Load, "imageBytes" | "sentBytes">> {
    const options = this.#options;
    const services = await Promise.all(devices.map((device) => options.servicesImage(device)));
    const named = [...services, ...options.companions].flatMap((reference) =>
      reference === null || reference === "" ? [] : [reference],
    );
    const { bytes, sent } = await imagesToBring(
      commands,
      named.map((each) => options.source(each)),
      system,
    );
    return { imageBytes: services.includes(null) ? null : bytes, sentBytes: sent };
  }

  /** Null where one is not here: its size is then not known. */
  async #models(commands: HostCommands, { models: names }: NodeWants): Promise<number | null> {
    const { config, fetching, models } = this.#options;
    const found = await Promise.all(names.map((name) => models.resolve(name, config).catch(unlessRefused)));
    const known = found.filter((model) => model !== null);
    return known.length < found.length ? null : modelRoom({ commands, fetching }, known);
  }
}

function unlessRefused(error: unknown): null {
  if (error instanceof GpuctlError) return null;
  throw error;
}
