import type { ServiceName } from "../../../domain/names.js";
import { cdiDeviceFor } from "../../../domain/preflight/cdi-device.js";
import type { NodeFacts } from "../../../domain/preflight/facts.js";
import { settleDevices, wantsGpu, type NodeNeeds, type ServiceNeeds } from "../../../domain/preflight/needs.js";
import type { ServiceSpec } from "../../../domain/release.js";
import type { NodeGpus } from "./compose-driver.js";

export interface NodeDevicesOptions {
  /** What the environment wants of the node. */
  needs: NodeNeeds;
  /** Looks at the node; called once. */
  inspect(): Promise<NodeFacts>;
}

/** The GPUs that an environment's services get on one node, by what was found there. */
export class NodeDevices implements NodeGpus {
  readonly #options: NodeDevicesOptions;
  #facts: Promise<NodeFacts> | null = null;

  constructor(options: NodeDevicesOptions) {
    this.#options = options;
  }

  /** Without a device of its name in any CDI specification the service starts on the CPU, if it may: preflight has said so. */
  async of(spec: ServiceSpec): Promise<string | null> {
    const wanted = (await this.#wanting()).find(({ name }) => name === spec.service);
    return wanted === undefined || spec.device.prefer === "cpu" ? null : cdiDeviceFor(await this.facts(), wanted.gpu);
  }

  /** Whether a service is meant to have a GPU here. */
  async wants(service: ServiceName): Promise<boolean> {
    return (await this.#wanting()).some(({ name }) => name === service);
  }

  async uuids(): Promise<readonly string[]> {
    const wanting = await this.#wanting();
    if (wanting.length === 0) return [];
    const { smi } = await this.facts();
    const all = smi.state === "gpus" ? smi.gpus.map(({ uuid }) => uuid) : [];
    return [...new Set(wanting.flatMap(({ gpu }) => (gpu === null ? all : [gpu])))];
  }

  /** What was found on the node, looked at once for all who ask. */
  facts(): Promise<NodeFacts> {
    const facts = (this.#facts ??= this.#options.inspect());
    facts.catch(() => (this.#facts = null));
    return facts;
  }

  async #wanting(): Promise<readonly ServiceNeeds[]> {
    const { needs } = this.#options;
    if (needs.services.every(({ device }) => device.prefer === "cpu")) return [];
    return settleDevices(needs, await this.facts()).services.filter(wantsGpu);
  }
}
