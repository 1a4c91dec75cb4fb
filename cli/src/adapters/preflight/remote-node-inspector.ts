import { randomBytes } from "node:crypto";
import { Failed } from "../../domain/errors.js";
import type { Fix } from "../../domain/preflight/fixes.js";
import type { NodeFacts } from "../../domain/preflight/facts.js";
import {
  dockerCommand,
  gpuContainerCommand,
  removeGpuContainer,
  wantsDeviceNodes,
  type GpuContainerProbe,
  type GpuContainerResult,
} from "../../domain/preflight/gpu-container.js";
import { lastLine } from "../../domain/preflight/read-machine.js";
import { ms } from "../../domain/units.js";
import type { Clock } from "../../ports.js";
import type { NodeInspector } from "../../ports/node-inspector.js";
import type { HostConnector, RemoteHost } from "../../ports/remote-host.js";
import { collectNodeFacts } from "./node-facts.js";

/** A container starts in a second or two; the driver of a card without persistence needs some more. */
const startPatience = ms(60_000);
/** The container toolkit reads the driver, which may have to be loaded first. */
const repairPatience = ms(60_000);
const dockerPatience = ms(20_000);

/** Looks at nodes over the connections of an environment, which it shares and leaves open. */
export class RemoteNodeInspector implements NodeInspector {
  readonly #hosts: Pick<HostConnector, "connect">;
  readonly #clock: Pick<Clock, "now">;

  constructor(hosts: Pick<HostConnector, "connect">, clock: Pick<Clock, "now">) {
    this.#hosts = hosts;
    this.#clock = clock;
  }

  async inspect(node: string, dataDirectory: string, signal: AbortSignal): Promise<NodeFacts> {
    const host = await this.#hosts.connect(node, signal);
    return collectNodeFacts(host, { dataDirectory, clock: this.#clock, signal });
  }

  async hasImage(node: string, image: string, as: GpuContainerProbe["as"], signal: AbortSignal): Promise<boolean> {
    const host = await this.#hosts.connect(node, signal);
    const argv = dockerCommand(as, ["image", "inspect", "--format", "{{.Id}}", image]);
    return (await host.run({ argv }, { deadline: dockerPatience, signal })).code === 0;
  }

  async repair(node: string, argv: Fix["argv"], signal: AbortSignal): Promise<string | null> {
    const host = await this.#hosts.connect(node, signal);
    const { code, stdout, stderr } = await host.run({ argv, env: { LC_ALL: "C" } }, { deadline: repairPatience, signal });
    if (code === 0) return null;
    return lastLine(stderr) || lastLine(stdout) || `it ended with status ${code ?? "unknown"}`;
  }

  async tryGpu(
    node: string,
    wanted: Omit<GpuContainerProbe, "name" | "look">,
    signal: AbortSignal,
  ): Promise<{ probe: GpuContainerProbe; result: GpuContainerResult }> {
    const host = await this.#hosts.connect(node, signal);
    const name = `gpuctl-probe-${randomBytes(6).toString("hex")}`;
    const first: GpuContainerProbe = { ...wanted, name, look: "nvidia-smi" };
    const result = await runProbe(host, first, signal);
    if (!wantsDeviceNodes(result)) return { probe: first, result };
    const second: GpuContainerProbe = { ...first, look: "device-nodes" };
    return { probe: second, result: await runProbe(host, second, signal) };
  }
}

/** Null when the container did not end in time; then, and when the command is stopped, it is removed by its name. */
async function runProbe(
  host: Pick<RemoteHost, "run">,
  probe: GpuContainerProbe,
  signal: AbortSignal,
): Promise<GpuContainerResult> {
  let ended = false;
  try {
    const { code, stdout, stderr } = await host.run({ argv: gpuContainerCommand(probe) }, { deadline: startPatience, signal });
    ended = true;
    return { code, stdout, stderr };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Failed) return null;
    throw error;
  } finally {
    // Without the signal, which may be why it has to go. What cannot be removed now goes by --rm when it ends.
    if (!ended) await host.run({ argv: removeGpuContainer(probe) }, { deadline: dockerPatience }).catch(() => undefined);
  }
}
