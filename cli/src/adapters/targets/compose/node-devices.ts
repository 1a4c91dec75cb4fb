import { serviceNames, type ServiceName } from "../../../domain/names.js";
import { cdiDeviceFor } from "../../../domain/preflight/cdi-device.js";
import type { NodeFacts } from "../../../domain/preflight/facts.js";
import { settleDevices, wantsGpu, type NodeNeeds, type ServiceNeeds } from "../../../domain/preflight/needs.js";
import type { ServiceSpec } from "../../../domain/release.js";
import type { ReservedGpu } from "./device-witness.js";
import type { GivenGpu } from "./host-memory.js";
import type { NodeGpus } from "./node-gpus.js";

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
    const uuid = await this.#given(spec);
    if (uuid === null) return null;
    // On WSL2 a card has no name of its own; there all of them are one.
    const facts = await this.facts();
    return cdiDeviceFor(facts, uuid) ?? cdiDeviceFor(facts, null);
  }

  async reserved(spec: ServiceSpec): Promise<ReservedGpu | null> {
    const uuid = (await this.of(spec)) === null ? null : await this.#given(spec);
    if (uuid === null) return null;
    const { smi } = await this.facts();
    const cards = smi.state === "gpus" ? smi.gpus.filter(({ instances }) => instances.some((each) => each.uuid === uuid)) : [];
    return [uuid, ...cards.map((card) => card.uuid)];
  }

  /** Whether a service is meant to have a GPU here. */
  async wants(service: ServiceName): Promise<boolean> {
    return (await this.#wanting()).some(({ name }) => name === service);
  }

  /** A service without a GPU of its own in gpuctl.yaml gets the first: the same one in every deploy. */
  async given(): Promise<readonly GivenGpu[]> {
    const wanting = await this.#wanting();
    if (wanting.length === 0) return [];
    const { smi } = await this.facts();
    const first = smi.state === "gpus" ? (smi.gpus[0]?.uuid ?? null) : null;
    const uuids = new Set(wanting.map(({ gpu }) => gpu ?? first).filter((uuid) => uuid !== null));
    const servicesOf = (uuid: string): readonly ServiceName[] =>
      serviceNames.filter((service) => wanting.some(({ name, gpu }) => name === service && (gpu ?? first) === uuid));
    return [...uuids].map((uuid) => ({ uuid, services: servicesOf(uuid) }));
  }

  /** What was found on the node, looked at once for all who ask. */
  facts(): Promise<NodeFacts> {
    const facts = (this.#facts ??= this.#options.inspect());
    facts.catch(() => (this.#facts = null));
    return facts;
  }

  async #given(spec: ServiceSpec): Promise<string | null> {
    if (spec.device.prefer === "cpu") return null;
    return (await this.given()).find(({ services }) => services.includes(spec.service))?.uuid ?? null;
  }

  async #wanting(): Promise<readonly ServiceNeeds[]> {
    const { needs } = this.#options;
    // What a card is worth to an index was never measured: only one that is told to gets a card.
    const services = needs.services.filter(({ name, device }) => name !== "index" || device.prefer !== "auto");
    if (services.every(({ device }) => device.prefer === "cpu")) return [];
    return settleDevices({ ...needs, services }, await this.facts()).services.filter(wantsGpu);
  }
}
