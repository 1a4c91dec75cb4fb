import {
  hostFiles,
  layoutOf,
  tlsEnd,
  tlsFiles,
  tlsPaths,
  type HostFile,
  type TlsPem,
} from "../../../domain/compose/host-files.js";
import { configLabel } from "../../../domain/compose/labels.js";
import type { ComposeNode } from "../../../domain/compose/node.js";
import { companions } from "../../../domain/compose/render-compose.js";
import { sha256 } from "../../../domain/canonical.js";
import { ConfigInvalid, GpuctlError } from "../../../domain/errors.js";
import type { Clock, Finding, Lease, Progress } from "../../../ports.js";
import { withoutCertificate } from "./acme-state.js";
import type { HostCommands } from "./host-commands.js";
import type { HostHttp } from "./host-http.js";
import { placeNode } from "./host-place.js";
import { stageImage, type ImageSource } from "./images.js";
import { companionOf, type HostView } from "./observation.js";
import type { FrontDrift } from "./observed-node.js";
import { ensureProxies } from "./proxy.js";

/** Files of this machine that TLS needs on a node. */
export interface OwnPem {
  /** Throws ConfigInvalid for what could not be used there. */
  read(): Promise<TlsPem>;
  /** What to know of it before a deploy. */
  findings(): Promise<readonly Finding[]>;
}

export interface FrontParts {
  commands: HostCommands;
  http: HostHttp;
  clock: Clock;
  progress: Progress;
  /** Images of the proxy and of what else stands beside the instances. */
  companions: readonly ImageSource[];
  /** What TLS needs of this machine; null where it needs nothing. */
  certificate: OwnPem | null;
}

/** What stands before the instances of a node: its proxy, the ingress, and what they are told. */
export class Front {
  readonly #parts: FrontParts;

  constructor(parts: FrontParts) {
    this.#parts = parts;
  }

  /** Makes all of it what it must be. What is right already is not touched. */
  async ensure(node: ComposeNode, lease: Lease, signal: AbortSignal): Promise<void> {
    const { commands, progress } = this.#parts;
    for (const image of this.#parts.companions) await stageImage(commands, image, progress, signal);
    await placeNode(commands, node, await this.#certificate(node), lease);
    await ensureProxies(this.#parts, node, lease);
  }

  /** Takes over what was placed with an instance: its limits for requests may be others. */
  async follow(node: ComposeNode, changed: readonly string[], lease: Lease): Promise<void> {
    if (changed.includes(layoutOf(node).proxyFile)) await ensureProxies(this.#parts, node, lease);
  }

  findings(node: ComposeNode): Promise<readonly Finding[]> {
    const { certificate } = this.#parts;
    return certificate === null || tlsPaths(node).length === 0 ? Promise.resolve([]) : certificate.findings();
  }

  /**
   * What is not as gpuctl.yaml makes it now: files on the host, containers that were made from something else, and certificates that are
   * not there. Nothing where it cannot be told.
   */
  async drift(node: ComposeNode, view: HostView): Promise<FrontDrift> {
    const unencrypted = await this.#unencrypted(node, view);
    try {
      const files = [...hostFiles(node), ...(await this.#own(node))];
      const wrong = files.filter(({ path, content }) => view.files.has(path) && view.files.get(path) !== sha256(content));
      const outdated = wrong.length === 0 ? null : differing(node, wrong);
      return { outdated, restarts: restartsOf(node, view), unencrypted };
    } catch (error) {
      if (error instanceof GpuctlError) return { outdated: null, restarts: [], unencrypted };
      throw error;
    }
  }

  /** A listener that does not run is told as that. */
  async #unencrypted(node: ComposeNode, view: HostView): Promise<string | null> {
    const end = tlsEnd(node);
    return end === null || companionOf(view, end)?.state !== "running" ? null : withoutCertificate(this.#parts, node);
  }

  async #own(node: ComposeNode): Promise<readonly HostFile[]> {
    const { certificate } = this.#parts;
    if (certificate === null || tlsPaths(node).length === 0) return [];
    try {
      return tlsFiles(node, await certificate.read());
    } catch (error) {
      if (error instanceof ConfigInvalid) return [];
      throw error;
    }
  }

  /** Whoever has no copy of the key can work on an environment all the same, once it is on the host. */
  async #certificate(node: ComposeNode): Promise<readonly HostFile[]> {
    const { certificate, commands, progress } = this.#parts;
    const paths = tlsPaths(node);
    if (certificate === null || paths.length === 0) return [];
    try {
      return tlsFiles(node, await certificate.read());
    } catch (error) {
      const { code } = await commands.attempt({ argv: ["test", ...paths.flatMap((path) => ["-a", "-s", path]).slice(1)] });
      if (!(error instanceof ConfigInvalid) || code !== 0) throw error;
      const text = `${error.message}: ${error.because ?? ""}; ${node.node} goes on with the certificate that it has`;
      progress.emit({ kind: "warning", text });
      return [];
    }
  }
}

function differing(node: ComposeNode, wrong: readonly HostFile[]): string {
  const names = wrong.map(({ path }) => path.slice(layoutOf(node).root.length + 1)).join(", ");
  return `${names} on ${node.node} ${wrong.length === 1 ? "is" : "are"} not what gpuctl.yaml says`;
}

/** Listeners that run and were made from another configuration. Redis is none: what it forgets is computed again. */
function restartsOf(node: ComposeNode, view: HostView): readonly string[] {
  return companions(node).flatMap(({ role, hash }) => {
    const container = role === "redis" ? null : companionOf(view, role);
    return container?.state === "running" && container.labels[configLabel] !== hash ? [`${role} of ${node.node}`] : [];
  });
}
