import type { HostLayout } from "../../../domain/compose/layout.js";
import type { InstanceId } from "../../../domain/names.js";
import { mib } from "../../../domain/units.js";
import { Failed } from "../../../domain/errors.js";
import type { InstanceObservation } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import { memoryOf } from "./host-memory.js";
import { keptFileOf } from "./host-place.js";
import { readKept, type KeptNode } from "./node-plan.js";
import { companionOf, observedInstances, observing, readHostView, type HostView } from "./observation.js";

/** What a host that nothing was deployed to has kept. */
export const nothingKept: KeptNode = { hostMemory: mib(0), services: [], images: [] };

/** Reads what is on a host, and changes nothing. */
export class HostReader {
  readonly #commands: HostCommands;
  readonly #layout: HostLayout;
  readonly #filters: readonly string[];

  /** @param filters  what finds the environment's containers */
  constructor(parts: { commands: HostCommands; layout: HostLayout; filters: readonly string[] }) {
    this.#commands = parts.commands;
    this.#layout = parts.layout;
    this.#filters = parts.filters;
  }

  async view(): Promise<HostView> {
    const { root, proxy, ingress, proxyFile, ingressFile, composeFile } = this.#layout;
    const certificates = [proxy, ingress].flatMap((each) => [
      ...Object.values(this.#layout.certificateIn(each)),
      this.#layout.directoryCaIn(each),
    ]);
    const args = [root, ...this.#filters, composeFile, proxyFile, ingressFile, ...certificates];
    return readHostView(await this.#commands.look({ text: observing, args, failure: "the host could not be looked at" }));
  }

  /** Every instance in a slot. Throws Failed when Docker does not answer. */
  async instances(): Promise<readonly InstanceObservation[]> {
    const view = await this.view();
    if (view.silent === null) return observedInstances(view, null);
    throw new Failed(`Docker on ${this.#commands.node} does not answer`, { because: view.silent, nextSteps: ["gpuctl doctor"] });
  }

  /** Whether the container of an instance runs, by Docker; null when that does not answer. */
  async runs(id: InstanceId): Promise<boolean | null> {
    const { containers, silent } = await this.view();
    if (silent !== null) return null;
    return containers.some(({ labels, state }) => labels["dev.gpuctl.instance"] === id && state === "running");
  }

  /** Whether the proxy surely does not run: by Docker, which answers. */
  async proxyIsDown(): Promise<boolean> {
    const view = await this.view();
    return view.silent === null && companionOf(view, "proxy")?.state !== "running";
  }

  /** What shall run there. */
  async kept(): Promise<KeptNode> {
    const path = keptFileOf(this.#layout.root);
    const text = `if [ -f "$1" ]; then exec cat "$1"; fi`;
    const rehearsed = this.#commands.rehearsal?.places.get(path)?.content ?? null;
    const said = rehearsed ?? (await this.#commands.look({ text, args: [path], failure: `${path} could not be read` }));
    return said === "" ? nothingKept : readKept(said, this.#commands.node, path);
  }

  /** The same, for whoever is about to deploy there for the first time. */
  async keptOrNew(): Promise<KeptNode> {
    const kept = await this.kept();
    if (kept.hostMemory > 0) return kept;
    return { ...kept, hostMemory: (await memoryOf(this.#commands)).totalMiB };
  }
}
