import type { Fix } from "../domain/preflight/fixes.js";
import type { NodeFacts } from "../domain/preflight/facts.js";
import type { GpuContainerResult, GpuContainerProbe } from "../domain/preflight/gpu-container.js";
import type { Load } from "../domain/preflight/needs-of.js";

/** Looks at the nodes of an environment, and mends them where that is asked for. Everything throws TargetUnreachable for a node that cannot be reached. */
export interface NodeInspector {
  /**
   * Everything a deploy depends on, without changing anything.
   * @param dataDirectory where the node is to keep models, index and records
   */
  inspect(node: string, dataDirectory: string, signal: AbortSignal): Promise<NodeFacts>;
  /** Whether an image is on the node, by its reference. */
  hasImage(node: string, image: string, as: GpuContainerProbe["as"], signal: AbortSignal): Promise<boolean>;
  /**
   * Starts a container with the GPU, waits for its end and removes it; by its device nodes when its image and its CDI specification
   * have no `nvidia-smi`. Gives the probe as it was made in the end.
   */
  tryGpu(
    node: string,
    probe: Omit<GpuContainerProbe, "name" | "look">,
    signal: AbortSignal,
  ): Promise<{ probe: GpuContainerProbe; result: GpuContainerResult }>;
  /** Runs the command of a repair to its end; null when that worked, else what it said. */
  repair(node: string, argv: Fix["argv"], signal: AbortSignal): Promise<string | null>;
}

/** What the services of a node are made of. */
export interface NodeWants {
  /** Devices that the services' images are for, each once. */
  devices: readonly ("cpu" | "cuda")[];
  /** Names of models in gpuctl.yaml, each once. */
  models: readonly string[];
}

/** Knows what a deploy would bring to a node. */
export interface NodeLoads {
  /** Null where that cannot be told: without root, without an engine that answers. */
  of(node: string, wants: NodeWants, facts: NodeFacts): Promise<Load | null>;
}
