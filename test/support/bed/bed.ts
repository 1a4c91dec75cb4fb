/** Hosts that look like rented ones: real sshd, real Docker Engines, GPUs that are not there. Needs root and Linux. */
import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "../until.js";
import { BedHost, type HostSpec } from "./host.js";
import { connect } from "./network.js";
import { OutboundProxy } from "./outbound-proxy.js";
import { prepared, type Prepared } from "./prepared.js";
import { innerInit } from "./processes.js";
import { Registry } from "./registry.js";
import { controlGroupOf, linkOf, makeFolder, removeRemains, sweep } from "./remains.js";
import { must } from "./shell.js";

export interface BedOptions {
  /** What is pushed to the registry stays for every later bed. */
  keepImages?: boolean;
}

/**
 * A bed that runs. Several may, at once; each has a subnet, names and files of its own. Everything is gone after `stop`, and
 * when the process that started it dies.
 */
export class Bed {
  readonly folder: string;
  readonly registry: Registry;
  readonly proxy = new OutboundProxy();
  readonly #id: string;
  readonly #hosts: readonly BedHost[];
  readonly #fabric: ChildProcess;

  private constructor(id: string, folder: string, fabric: ChildProcess, registry: Registry, hosts: readonly BedHost[]) {
    this.#id = id;
    this.folder = folder;
    this.#fabric = fabric;
    this.registry = registry;
    this.#hosts = hosts;
  }

  /** Starts hosts, all at once, and waits until sshd and Docker of each answer. */
  static async start(specs: readonly HostSpec[], options: BedOptions = {}): Promise<Bed> {
    const parts = await prepared();
    await sweep();
    const id = randomBytes(3).toString("hex");
    const folder = makeFolder(id);
    let bed: Bed | undefined;
    try {
      bed = await Bed.#make(id, folder, parts, specs, options);
      await bed.#start();
      return bed;
    } catch (error) {
      await bed?.stop();
      await removeRemains(id);
      throw error;
    }
  }

  static async #make(
    id: string,
    folder: string,
    parts: Prepared,
    specs: readonly HostSpec[],
    { keepImages = false }: BedOptions,
  ): Promise<Bed> {
    const fabric = await startFabric();
    const pid = innerInit(fabric.pid ?? 0);
    if (pid === null) throw new Error("the bed's first process is gone");
    const subnet = await connect(linkOf(id), pid).catch((error: unknown) => {
      fabric.stdin?.end();
      throw error;
    });
    await must("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "bed", "-f", join(folder, "client_key")]);
    const clientKey = readFileSync(join(folder, "client_key.pub"), "utf8");
    mkdirSync(join(folder, "hosts"), { recursive: true });
    const hosts = specs.map(
      (spec, n) =>
        new BedHost(spec, {
          folder,
          base: parts.host,
          fabric: pid,
          controlGroup: `${controlGroupOf(id)}/${spec.name}`,
          number: n,
          address: subnet.host(n),
          clientKey,
        }),
    );
    const registry = new Registry({
      folder,
      program: join(parts.host, "usr/bin/docker-registry"),
      kept: parts.registry,
      keepImages,
      fabric: pid,
      address: subnet.registry,
    });
    const bed = new Bed(id, folder, fabric, registry, hosts);
    await bed.proxy.listen(subnet.machine).catch(async (error: unknown) => {
      await bed.stop();
      throw error;
    });
    return bed;
  }

  async #start(): Promise<void> {
    await this.registry.start();
    await Promise.all(
      this.#hosts.map(async (host) => {
        await host.install();
        await host.powerOn();
      }),
    );
    this.writeKnownHosts();
  }

  host(name: string): BedHost {
    const found = this.#hosts.find((host) => host.name === name);
    if (found === undefined) throw new Error(`the bed has no host ${name}`);
    return found;
  }

  /** Private key that logs in everywhere as `root` and as `deploy`. */
  get clientKey(): string {
    return join(this.folder, "client_key");
  }

  /** Keys of all hosts, as they were when it was written last. */
  get knownHosts(): string {
    return join(this.folder, "known_hosts");
  }

  /** To be called again when a host got a new disk and its new key shall be known. */
  writeKnownHosts(): void {
    writeFileSync(this.knownHosts, this.#hosts.map((host) => `${host.address} ${host.hostKey}\n`).join(""));
  }

  /** Arguments of OpenSSH's client up to the host, for a session that knows nothing of this machine's own settings. */
  sshArguments(host: BedHost, user = "root"): string[] {
    const options = [`UserKnownHostsFile=${this.knownHosts}`, "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "BatchMode=yes"];
    return ["-F", "none", "-i", this.clientKey, ...options.flatMap((option) => ["-o", option]), `${user}@${host.address}`];
  }

  /** Ends every process of it and removes every trace. */
  async stop(): Promise<void> {
    await this.proxy.close();
    const ended = this.#fabric.exitCode === null && this.#fabric.signalCode === null ? once(this.#fabric, "exit") : null;
    this.#fabric.stdin?.end();
    await ended;
    await Promise.all(this.#hosts.map((host) => host.gone()));
    await removeRemains(this.#id);
  }
}

/** The namespaces of a bed, kept by one process that ends with its stdin. */
async function startFabric(): Promise<ChildProcess> {
  const own = ["--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
  const child = spawn("unshare", [...own, "bash", join(import.meta.dirname, "fabric.sh")], { stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text: string) => (said += text));
  const settled = (): boolean => said.includes("ready\n") || child.exitCode !== null;
  await until(settled, "the bed's namespaces are made", 10_000);
  if (child.exitCode !== null) throw new Error(`the bed's namespaces could not be made (it takes root):\n${said}`);
  return child;
}
