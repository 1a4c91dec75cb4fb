/** The registry of a bed: Debian's docker-registry, on the bed's bridge, without TLS. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { until } from "../until.js";
import { childrenOf } from "./processes.js";
import { must } from "./shell.js";

export interface RegistryPlace {
  /** Folder of the bed. */
  folder: string;
  program: string;
  /** Storage that outlives the bed. */
  kept: string;
  /** Whether pushes go there; else they end with the bed. */
  keepImages: boolean;
  fabric: number;
  address: string;
}

const port = 5000;

export class Registry {
  readonly #place: RegistryPlace;
  #child: ChildProcess | null = null;
  #mounted = false;

  constructor(place: RegistryPlace) {
    this.#place = place;
  }

  /** As image names begin with it: `198.18.7.2:5000`. */
  get address(): string {
    return `${this.#place.address}:${port}`;
  }

  /** @param htpasswd  who may use it, a line each as htpasswd writes them (bcrypt); without: everybody */
  async start({ htpasswd }: { htpasswd?: string } = {}): Promise<void> {
    const { folder, program, address, fabric } = this.#place;
    const storage = await this.#storage();
    const configuration = join(folder, "registry.yaml");
    const http = { addr: `${address}:${port}`, secret: "one instance has nobody to share it with" };
    const stored = { filesystem: { rootdirectory: storage }, delete: { enabled: true } };
    const users = join(folder, "htpasswd");
    if (htpasswd !== undefined) writeFileSync(users, htpasswd);
    const auth = htpasswd === undefined ? {} : { auth: { htpasswd: { realm: "bed", path: users } } };
    writeFileSync(configuration, JSON.stringify({ version: 0.1, log: { level: "warn" }, storage: stored, http, ...auth }));
    const log = openSync(this.#log, "a");
    const command = ["-t", String(fabric), "-m", "-n", "-p", "--", program, "serve", configuration];
    const child = spawn("nsenter", command, {
      stdio: ["ignore", log, log],
      detached: true,
      env: { PATH: process.env["PATH"] ?? "" },
    });
    closeSync(log);
    this.#child = child;
    await until(async () => child.exitCode !== null || (await this.#answers()), "the registry answers", 20_000);
    if (child.exitCode !== null) throw new Error(`the registry did not start:\n${readFileSync(this.#log, "utf8")}`);
  }

  /** As if its machine was gone. */
  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    // The child is nsenter, which waits for the program and ends as it does.
    for (const pid of childrenOf(child.pid ?? 0)) process.kill(pid, "SIGKILL");
    await ended;
  }

  get #log(): string {
    return join(this.#place.folder, "registry.log");
  }

  /** The kept storage itself, or a layer over it that ends with the bed. */
  async #storage(): Promise<string> {
    const { folder, kept, keepImages, fabric } = this.#place;
    mkdirSync(kept, { recursive: true });
    if (keepImages) return kept;
    const [upper, work, merged] = ["upper", "work", "merged"].map((name) => join(folder, "registry", name)) as [
      string,
      string,
      string,
    ];
    for (const each of [upper, work, merged]) mkdirSync(each, { recursive: true });
    const layers = `lowerdir=${kept},upperdir=${upper},workdir=${work}`;
    if (!this.#mounted)
      await must("nsenter", ["-t", String(fabric), "-m", "--", "mount", "-t", "overlay", "overlay", "-o", layers, merged]);
    this.#mounted = true;
    return merged;
  }

  #answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect({ host: this.#place.address, port, timeout: 1000 });
      const settle = (answer: boolean) => () => {
        socket.destroy();
        resolve(answer);
      };
      socket.once("connect", settle(true)).once("error", settle(false)).once("timeout", settle(false));
    });
  }
}
