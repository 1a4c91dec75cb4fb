import type { Duplex, Readable } from "node:stream";
import { connect } from "node:net";
import { execa } from "execa";
import { forLoginShell } from "../../domain/ssh/shell-line.js";
import { ms } from "../../domain/units.js";
import { cannotConnect, lastLines, type HostAddress } from "./unreachable.js";
import type { HostShell, ScriptEvents, TunnelEnd } from "./host-shell.js";
import { unlessAborted } from "./time-limit.js";
import { startMaster, type Master, type OpensshOptions } from "./openssh-master.js";

/** Connects with the system's ssh: one master process holds the connection, every script is a client of it. */
export async function connectOpenssh(options: OpensshOptions, signal: AbortSignal): Promise<HostShell> {
  return new OpensshShell(options.address, await startMaster(options, signal));
}

class OpensshShell implements HostShell {
  readonly status = "printed";
  readonly #address: HostAddress;
  readonly #master: Master;
  /** Local sockets that lead to ports and sockets of the host, by what they lead to. */
  readonly #forwards = new Map<string, Promise<string>>();
  #asked = 0;

  constructor(address: HostAddress, master: Master) {
    this.#address = address;
    this.#master = master;
  }

  get lost(): boolean {
    return this.#master.ended;
  }

  start(script: string, input: Readable | null, events: ScriptEvents): Promise<() => void> {
    let deaf = false;
    let said = "";
    const client = execa("ssh", [...this.#master.clientArgs(), forLoginShell(script)], {
      stdin: input === null ? "ignore" : "pipe",
      buffer: false,
      reject: false,
      encoding: "buffer",
      env: this.#master.env,
      extendEnv: false,
    });
    client.stdout.on("data", (chunk: Buffer) => deaf || events.stdout(chunk));
    client.stderr.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString("utf8", Math.max(0, chunk.length - 2000))).slice(-2000);
      if (!deaf) events.stderr(chunk);
    });
    // A script that ends without reading its input is not an error of ours.
    client.stdin?.on("error", () => undefined);
    if (client.stdin !== null) input?.pipe(client.stdin);
    void client.then(async ({ exitCode, shortMessage = "" }) => {
      // A client ends before its master does: who hears of it first must not find the dead one the next moment.
      if (exitCode === 255) await this.#master.endsWithin(ms(500));
      const said255 = this.lost ? this.#master.said() : lastLines(said);
      const why = exitCode === undefined ? shortMessage : exitCode === 255 ? said255 : "";
      if (!deaf) events.closed(why.trim() === "" ? null : new Error(lastLines(why)));
    });
    return Promise.resolve(() => {
      deaf = true;
      client.kill("SIGKILL");
    });
  }

  async forward(to: TunnelEnd, signal: AbortSignal): Promise<Duplex> {
    const end = "port" in to ? `127.0.0.1:${to.port}` : to.socket;
    let local = this.#forwards.get(end);
    if (local === undefined) {
      local = this.#ask(end);
      this.#forwards.set(end, local);
      local.catch(() => this.#forwards.delete(end));
    }
    return connect({ path: await unlessAborted(local, signal), allowHalfOpen: true });
  }

  close(): Promise<void> {
    return this.#master.close();
  }

  /** The master listens on a socket of ours: nobody else can reach it, and no port can be taken in between. */
  async #ask(end: string): Promise<string> {
    const local = this.#master.pathOf(`t${this.#asked++}`);
    const { exitCode, stderr } = await execa("ssh", this.#master.controlArgs("forward", ["-L", `${local}:${end}`]), {
      stdin: "ignore",
      reject: false,
      timeout: 10_000,
      env: this.#master.env,
      extendEnv: false,
    });
    if (exitCode !== 0) throw cannotConnect(this.#address, `no tunnel to ${end}: ${lastLines(stderr)}`);
    return local;
  }
}
