import { sha256 } from "../canonical.js";
import { ConfigInvalid } from "../errors.js";
import type { InstanceId, ReleaseId, ServiceName } from "../names.js";
import { adminSocket, directoryCaFile, sockets } from "./inside.js";

export const defaultDataDirectory = "/var/lib/gpuctl";

/** The longest path a unix socket can have is 107 bytes; this leaves room to spare. */
const socketPathLimit = 100;
/** The longest `/<instance>/<socket>`: `/reranker-r99999-9f3ab2c1-cpu/private.sock` is 42 bytes. */
const socketNameLength = 48;

/** Every path of one environment on one host. Readable without gpuctl: README.txt explains it there. */
export class HostLayout {
  /** `<data directory>/<project>/<environment>`. */
  readonly root: string;
  /** Directory of the unix sockets: below `root` where their paths fit, else a short one beside the projects. */
  readonly run: string;

  /** Throws ConfigInvalid for a data directory that is relative or too long for sockets below it. */
  constructor(dataDirectory: string, project: string, environment: string) {
    const data = dataDirectory.replace(/\/+$/, "");
    if (!data.startsWith("/") || /\/\.{1,2}(?:\/|$)|[:\0\n]/.test(data))
      throw unusable(dataDirectory, "is not an absolute, plain path");
    this.root = `${data}/${project}/${environment}`;
    this.run = `${this.root}/run`;
    if (fits(this.run)) return;
    this.run = `${data}/.run/${sha256(this.root).slice(0, 16)}`;
    if (!fits(this.run)) throw unusable(dataDirectory, "leaves no room for the names of unix sockets, which end at 107 bytes");
  }

  get composeFile(): string {
    return `${this.root}/compose.yaml`;
  }
  get readme(): string {
    return `${this.root}/README.txt`;
  }
  /** Release records; root only, as their secrets are beside them. */
  get releases(): string {
    return `${this.root}/releases`;
  }

  /** Configuration of the proxy of this node. */
  get proxy(): string {
    return `${this.root}/proxy`;
  }
  get proxyFile(): string {
    return `${this.proxy}/Caddyfile`;
  }
  /** What the proxy keeps: certificates it got by ACME. */
  get proxyData(): string {
    return `${this.root}/proxy-data`;
  }
  get proxyRun(): string {
    return `${this.run}/proxy`;
  }
  get proxyAdmin(): string {
    return `${this.proxyRun}/${adminSocket}`;
  }

  /** Configuration of the ingress, on the node that has it. */
  get ingress(): string {
    return `${this.root}/ingress`;
  }
  get ingressFile(): string {
    return `${this.ingress}/Caddyfile`;
  }
  get ingressData(): string {
    return `${this.root}/ingress-data`;
  }
  get ingressRun(): string {
    return `${this.run}/ingress`;
  }
  get ingressAdmin(): string {
    return `${this.ingressRun}/${adminSocket}`;
  }

  /** Where the certificate and its key lie, for the proxy or for the ingress. */
  certificateIn(directory: string): { certificate: string; key: string } {
    return { certificate: `${directory}/tls.crt`, key: `${directory}/tls.key` };
  }

  /** Where the CA lies that an ACME directory's own certificate is signed by. */
  directoryCaIn(directory: string): string {
    return `${directory}/${directoryCaFile}`;
  }

  get secrets(): string {
    return `${this.root}/secrets`;
  }
  secretsOf(release: ReleaseId): string {
    return `${this.secrets}/${release}`;
  }
  /** What a container of the service gets to see: one file for each secret. */
  secretsFor(release: ReleaseId, service: ServiceName): string {
    return `${this.secretsOf(release)}/${service}`;
  }

  get gates(): string {
    return `${this.root}/gates`;
  }
  /** The traffic gate of an instance: a file that says `open` or `closed`. */
  gate(id: InstanceId): string {
    return `${this.gates}/${id}`;
  }

  runOf(id: InstanceId): string {
    return `${this.run}/${id}`;
  }
  private(id: InstanceId): string {
    return `${this.runOf(id)}/${sockets.private}`;
  }
  control(id: InstanceId): string {
    return `${this.runOf(id)}/${sockets.control}`;
  }
  instanceDocument(id: InstanceId): string {
    return `${this.runOf(id)}/${sockets.document}`;
  }

  /** The vector index of this node. */
  get index(): string {
    return `${this.root}/index`;
  }
}

const fits = (run: string): boolean => new TextEncoder().encode(run).length + socketNameLength <= socketPathLimit;

function unusable(directory: string, because: string): ConfigInvalid {
  return new ConfigInvalid(`dataDirectory ${JSON.stringify(directory)} cannot be used`, {
    because: `it ${because}`,
    nextSteps: [`use ${defaultDataDirectory}, or another short absolute path`],
  });
}
