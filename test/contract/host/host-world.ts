import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LocalExecutor } from "../../../cli/src/adapters/exec/local-executor.js";
import { SshHostConnector, type ConnectorOptions } from "../../../cli/src/adapters/ssh/host-connector.js";
import { ms, type Milliseconds } from "../../../cli/src/domain/units.js";
import type { RemoteHost } from "../../../cli/src/ports.js";
import type { KeyPair } from "../../support/ssh-server.js";

/** One host that the contract is tried on. The host is always this machine, however it is reached. */
export interface HostWorld {
  host: RemoteHost;
  /** A folder on the host; what is in it can be looked at directly. */
  folder: string;
  /** Breaks the connection as a network does; null where there is none. */
  line: { cut(): void; freeze(): void; thaw(): void; cutAfter(direction: "up" | "down", bytes: number): void } | null;
  dispose(): Promise<void>;
}

/** A folder with keys, known_hosts and configuration of ssh, as a user's home has them. */
export class SshHome {
  readonly folder = mkdtempSync(join(tmpdir(), "gpuctl-home-"));
  knownHosts = join(this.folder, "known_hosts");
  readonly identityFile = join(this.folder, "id_test");
  readonly configFile = join(this.folder, "config");

  constructor(userKey: KeyPair) {
    writeFileSync(this.identityFile, userKey.private, { mode: 0o600 });
    writeFileSync(`${this.identityFile}.pub`, `${userKey.public}\n`);
    writeFileSync(this.knownHosts, "", { mode: 0o600 });
    this.configure("");
  }

  configure(text: string): void {
    writeFileSync(this.configFile, text, { mode: 0o600 });
  }

  know(port: number, publicKey: string): void {
    writeFileSync(this.knownHosts, `[127.0.0.1]:${port} ${publicKey}\n`);
  }

  /** A folder to work in. */
  make(name: string): string {
    const path = join(this.folder, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

interface Reach {
  client?: "node-ssh" | "openssh";
  user?: string;
  acceptNew?: boolean;
  connectTimeout?: Milliseconds;
  keepalive?: ConnectorOptions["keepalive"];
  /** In place of the PATH of this process, and of the home's configuration of ssh. */
  path?: string;
  configFile?: string;
  /** In place of the usual node, which gpuctl.yaml says everything about. */
  node?: ConnectorOptions["nodes"][number];
  /** Nodes beside it. */
  others?: ConnectorOptions["nodes"];
}

/** How a node `box` on this machine is reached in the tests, without anything of the real user's home. */
export function connectorTo(home: SshHome, port: number, more: Reach = {}): SshHostConnector {
  const env = { PATH: more.path ?? process.env["PATH"], HOME: home.folder };
  const { client = "node-ssh", user = "tester", acceptNew = false, connectTimeout = ms(10_000), keepalive } = more;
  const node = more.node ?? { name: "box", host: "127.0.0.1", port, user, identityFile: home.identityFile };
  return new SshHostConnector({
    nodes: [node, ...(more.others ?? [])],
    ssh: { client, knownHosts: home.knownHosts, connectTimeout, acceptNew },
    env,
    executor: new LocalExecutor(env),
    projectFile: join(home.folder, "gpuctl.yaml"),
    configFile: more.configFile ?? home.configFile,
    ...(keepalive === undefined ? {} : { keepalive }),
  });
}
