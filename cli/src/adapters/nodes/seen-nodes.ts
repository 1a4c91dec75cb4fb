import type { NodeFacts } from "../../domain/preflight/facts.js";
import { judgeGpuContainer, type GpuContainerProbe, type GpuContainerResult } from "../../domain/preflight/gpu-container.js";
import { summaryOf, withGpuContainer, type NodeSummary } from "../../domain/preflight/node-summary.js";
import type { Clock } from "../../ports.js";

/** What one command saw of nodes, for its record and for `gpuctl status`. */
export class SeenNodes {
  readonly #seen = new Map<string, NodeSummary>();
  readonly #clock: Pick<Clock, "now">;

  constructor(clock: Pick<Clock, "now">) {
    this.#clock = clock;
  }

  all(): readonly NodeSummary[] {
    return [...this.#seen.values()];
  }

  looked(node: string, facts: NodeFacts): void {
    this.#seen.set(node, summaryOf(node, facts, this.#now()));
  }

  /** How a container ended that was started with a GPU for a moment, on a node that was looked at. */
  tried(node: string, facts: NodeFacts, { probe, result }: { probe: GpuContainerProbe; result: GpuContainerResult }): void {
    const summary = this.#seen.get(node);
    if (summary === undefined) return;
    const { what } = judgeGpuContainer(probe, result, facts);
    this.#seen.set(node, withGpuContainer(summary, { device: probe.device, what, at: this.#now() }));
  }

  #now(): string {
    return this.#clock.now().toISOString();
  }
}
