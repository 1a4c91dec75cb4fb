import { PreflightRefused } from "../../../domain/errors.js";
import type { DoctorFinding } from "../../../domain/doctor/finding.js";
import type { NodeFacts } from "../../../domain/preflight/facts.js";
import { judgeGpuContainer, type GpuContainerProbe } from "../../../domain/preflight/gpu-container.js";
import type { NodeNeeds, ServiceNeeds } from "../../../domain/preflight/needs.js";
import type { ServiceSpec } from "../../../domain/release.js";
import type { Progress } from "../../../ports.js";
import type { NodeInspector } from "../../../ports/node-inspector.js";
import type { HostCommands } from "./host-commands.js";
import { hasImage, type ImageSource } from "./images.js";
import { onNode } from "./node-finding.js";
import { instancesOf, type KeptNode } from "./node-plan.js";

/** How a node is looked at as `gpuctl doctor` does. */
export interface NodeLook {
  /** What the environment wants of the node. */
  needs: NodeNeeds;
  /** What was found there, looked at once for all who ask. */
  facts(): Promise<NodeFacts>;
  /** Starts a container with the GPU for a moment. */
  tryGpu(probe: Omit<GpuContainerProbe, "name" | "look">, signal: AbortSignal): ReturnType<NodeInspector["tryGpu"]>;
}

export interface GpuTrialParts {
  commands: HostCommands;
  look: NodeLook;
  /** The image that holds a spec's code, pinned. */
  imageOf: (spec: ServiceSpec) => Pick<ImageSource, "reference">;
  /** CDI name of the GPU that a service would be given; null for a CPU. */
  gpuOf: (spec: ServiceSpec) => Promise<string | null>;
  /** What is to run on the host now. */
  kept(): Promise<KeptNode>;
  progress: Progress;
}

/** What a spec wants: a release that is rolled back to may want another device than gpuctl.yaml says today. */
export function needsOf({ services }: NodeNeeds, { service, device, listen, secrets }: ServiceSpec): ServiceNeeds {
  const configured = services.find(({ name }) => name === service);
  if (configured !== undefined) return { ...configured, device };
  return {
    name: service,
    port: listen.port,
    device,
    gpu: null,
    vramMiB: null,
    modelBytes: null,
    cpuFallback: false,
    keys: "API_KEYS" in secrets,
  };
}

/**
 * Containers that are started for a moment with each GPU that services would be given. Whether a service requires its GPU does not
 * matter: with a device that cannot be given its container does not start at all.
 */
export class GpuTrials {
  readonly #parts: GpuTrialParts;
  /** Devices that the last preflight had no image for. */
  readonly #waiting = new Set<string>();

  constructor(parts: GpuTrialParts) {
    this.#parts = parts;
  }

  /** With an image that is there: the one that is deployed, or one that runs. A host that has none yet is tried when its image came. */
  async inPreflight(specs: readonly ServiceSpec[], facts: NodeFacts, signal: AbortSignal): Promise<readonly DoctorFinding[]> {
    const { gpuOf, imageOf } = this.#parts;
    const findings: DoctorFinding[] = [];
    const tried = new Set<string>();
    this.#waiting.clear();
    for (const spec of specs) {
      const device = await gpuOf(spec);
      if (device === null || tried.has(device)) continue;
      const image = await this.#firstPresent([imageOf(spec).reference, ...(await this.#running())]);
      if (image === null) {
        this.#waiting.add(device);
        continue;
      }
      tried.add(device);
      this.#waiting.delete(device);
      findings.push(...(await this.#try({ spec, device, image, facts }, signal)));
    }
    return findings;
  }

  /** When the image of a spec came to a host that had none for its preflight. Throws PreflightRefused with what doctor says of it. */
  async afterStaging(spec: ServiceSpec, signal: AbortSignal): Promise<void> {
    const { commands, look, gpuOf, imageOf, progress } = this.#parts;
    if (this.#waiting.size === 0) return;
    const device = await gpuOf(spec);
    if (device === null || !this.#waiting.has(device)) return;
    const facts = await look.facts();
    const found = await this.#try({ spec, device, image: imageOf(spec).reference, facts }, signal);
    this.#waiting.delete(device);
    for (const finding of found.map((each) => onNode(commands.node, each))) {
      const { level, what, because = what, nextSteps = [] } = finding;
      if (level === "warning") progress.emit({ kind: "warning", text: `${what}: ${because}` });
      if (level !== "blocker") continue;
      throw new PreflightRefused(what, {
        because,
        nextSteps: [...new Set([...nextSteps, "gpuctl doctor"])],
        data: { blockers: [finding] },
      });
    }
  }

  async #try(
    { spec, device, image, facts }: { spec: ServiceSpec; device: string; image: string; facts: NodeFacts },
    signal: AbortSignal,
  ): Promise<readonly DoctorFinding[]> {
    const { look } = this.#parts;
    if (facts.docker.state !== "reachable") return [];
    const { gpu } = needsOf(look.needs, spec);
    const { probe, result } = await look.tryGpu({ image, gpu, device, as: facts.docker.as }, signal);
    return [judgeGpuContainer(probe, result, facts)];
  }

  async #running(): Promise<readonly string[]> {
    return [...new Set(instancesOf(await this.#parts.kept()).map(({ image }) => image))];
  }

  async #firstPresent(references: readonly string[]): Promise<string | null> {
    for (const reference of references) if (await hasImage(this.#parts.commands, reference)) return reference;
    return null;
  }
}
