import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server as NetServer, type Socket } from "node:net";
import ssh2, { type Connection, type ParsedKey, type ServerChannel } from "ssh2";

const { Server, utils } = ssh2;

/** A pair of keys for a host or a user. */
export interface KeyPair {
  private: string;
  /** `ssh-ed25519 AAAA…` */
  public: string;
}

/** ssh2 writes a damaged file for one key in some hundreds, so what it makes is tried out. */
export function newKey(type: "ed25519" | "ecdsa" | "rsa" = "ed25519"): KeyPair {
  for (;;) {
    const pair = makeKey(type);
    const [secret, open] = [utils.parseKey(pair.private), utils.parseKey(pair.public)];
    if (secret instanceof Error || open instanceof Error || !secret.getPublicSSH().equals(open.getPublicSSH())) continue;
    const data = Buffer.from("tried out");
    if (open.verify(data, secret.sign(data))) return pair;
  }
}

function makeKey(type: "ed25519" | "ecdsa" | "rsa"): KeyPair {
  if (type === "ed25519") return utils.generateKeyPairSync("ed25519");
  return type === "rsa" ? utils.generateKeyPairSync("rsa", { bits: 2048 }) : utils.generateKeyPairSync("ecdsa", { bits: 256 });
}

/** A line between a client and a server that can be held or cut. */
export class FaultyLine {
  readonly #listener: NetServer;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  readonly #target: () => number;
  #frozen = false;
  #cutAfter: { direction: "up" | "down"; bytes: number } | null = null;
  connections = 0;

  private constructor(target: () => number) {
    this.#target = target;
    this.#listener = createServer((near) => {
      this.#join(near);
    });
  }

  static async open(target: () => number): Promise<FaultyLine> {
    const line = new FaultyLine(target);
    line.#listener.listen(0, "127.0.0.1");
    await once(line.#listener, "listening");
    return line;
  }

  get port(): number {
    return (this.#listener.address() as AddressInfo).port;
  }

  /** Nothing passes any more and nobody is told, as when a cable is pulled. */
  freeze(): void {
    this.#frozen = true;
  }

  thaw(): void {
    this.#frozen = false;
  }

  /** Breaks every connection. */
  cut(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.resetAndDestroy();
  }

  /** Breaks the connections once so many bytes, as they are on the wire, have gone this way from now on. */
  cutAfter(direction: "up" | "down", bytes: number): void {
    this.#cutAfter = { direction, bytes };
  }

  async close(): Promise<void> {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    await new Promise((resolve) => this.#listener.close(resolve));
  }

  #join(near: Socket): void {
    this.connections += 1;
    const far = connect(this.#target(), "127.0.0.1");
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    this.#carry(near, far, "up");
    this.#carry(far, near, "down");
    for (const socket of pair) {
      socket.on("error", () => undefined);
      socket.on("close", () => {
        this.#pairs.delete(pair);
        for (const other of pair) other.destroy();
      });
    }
  }

  #carry(from: Socket, to: Socket, direction: "up" | "down"): void {
    from.on("data", (chunk: Buffer) => {
      if (this.#frozen) return;
      if (this.#cutAfter?.direction === direction && (this.#cutAfter.bytes -= chunk.length) <= 0) {
        this.#cutAfter = null;
        this.cut();
      } else if (!to.write(chunk)) {
        from.pause();
        to.once("drain", () => from.resume());
      }
    });
  }
}

/** What an SSH server does wrong. */
export interface Faults {
  refuseKeys: boolean;
  refuseSessions: boolean;
  /** Printed by the account's shell before every command, on stdout. */
  banner: string;
  /** Program that is the account's shell. */
  shell: string;
  /** Where commands find programs, in place of the PATH of this process. */
  path: string | null;
}

/**
 * An SSH server in this process, behind a line that can fail. Commands really run, on this machine, each as the leader of a
 * session; exit statuses and signals are sent as sshd sends them.
 */
export class TestSshServer {
  readonly faults: Faults = { refuseKeys: false, refuseSessions: false, banner: "", shell: "/bin/sh", path: null };
  readonly line: FaultyLine;
  /** The first of the keys it has. */
  hostKey: KeyPair;
  /** Names that keys were accepted for. */
  readonly users = new Set<string>();
  /** Sessions that ran a command, at once and at most. */
  sessions = { now: 0, most: 0, total: 0 };
  #moreKeys: readonly KeyPair[] = [];
  readonly #userKey: KeyPair;
  readonly #children = new Set<number>();
  #server: InstanceType<typeof Server>;

  private constructor(line: FaultyLine, hostKey: KeyPair, userKey: KeyPair, port: { value: number }) {
    this.line = line;
    this.hostKey = hostKey;
    this.#userKey = userKey;
    this.#server = this.#makeServer();
    this.#port = port;
  }

  readonly #port: { value: number };

  static async start(userKey: KeyPair, hostKey = newKey()): Promise<TestSshServer> {
    const port = { value: 0 };
    const server = new TestSshServer(await FaultyLine.open(() => port.value), hostKey, userKey, port);
    await server.#listen();
    return server;
  }

  get port(): number {
    return this.line.port;
  }

  /** From now on other keys are shown, by a server that is otherwise the same. */
  async changeKey(key = newKey(), ...more: readonly KeyPair[]): Promise<void> {
    this.#server.close();
    this.line.cut();
    this.hostKey = key;
    this.#moreKeys = more;
    this.#server = this.#makeServer();
    await this.#listen();
  }

  async close(): Promise<void> {
    await this.line.close();
    this.#server.close();
    for (const pid of this.#children) killGroup(pid);
  }

  async #listen(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.#port.value = (this.#server.address() as AddressInfo).port;
  }

  #makeServer(): InstanceType<typeof Server> {
    const allowed = utils.parseKey(this.#userKey.public) as ParsedKey;
    return new Server({ hostKeys: [this.hostKey, ...this.#moreKeys].map((key) => key.private) }, (client) => {
      client.setMaxListeners(0);
      client.on("error", () => undefined);
      client.on("authentication", (attempt) => {
        const right =
          !this.faults.refuseKeys && attempt.method === "publickey" && attempt.key.data.equals(allowed.getPublicSSH());
        if (right) this.users.add(attempt.username);
        if (right) attempt.accept();
        else attempt.reject(["publickey"]);
      });
      client.on("ready", () => {
        this.#serve(client);
      });
    });
  }

  #serve(client: Connection): void {
    client.on("session", (accept, reject) => {
      if (this.faults.refuseSessions) {
        reject();
        return;
      }
      accept().on("exec", (acceptExec, _reject, info) => {
        this.#run(client, acceptExec(), info.command);
      });
    });
    client.on("tcpip", (accept, reject, info) => {
      forward(accept, reject, { port: info.destPort, host: info.destIP });
    });
    client.on("openssh.streamlocal", (accept, reject, info) => {
      forward(accept, reject, { path: info.socketPath });
    });
  }

  #run(client: Connection, channel: ServerChannel, command: string): void {
    this.sessions.total += 1;
    this.sessions.most = Math.max(this.sessions.most, ++this.sessions.now);
    if (this.faults.banner !== "") channel.write(this.faults.banner);
    const env = { ...process.env, ...(this.faults.path === null ? {} : { PATH: this.faults.path }) };
    const child = spawn(this.faults.shell, ["-c", command], { detached: true, stdio: "pipe", env });
    if (child.pid !== undefined) this.#children.add(child.pid);
    channel.pipe(child.stdin);
    child.stdout.pipe(channel, { end: false });
    child.stderr.pipe(channel.stderr, { end: false });
    for (const stream of [channel, child.stdin, child.stdout, child.stderr]) stream.on("error", () => undefined);
    // As sshd: the status goes when the process ends, the channel closes when nobody holds its output any more.
    child.on("exit", (code, signal) => {
      if (signal === null) channel.exit(code ?? 0);
      else channel.exit(signal.replace("SIG", ""));
    });
    child.on("close", () => {
      if (child.pid !== undefined) this.#children.delete(child.pid);
      this.sessions.now -= 1;
      channel.end();
    });
    // When the connection is lost the pipes are closed, which a command that reads or writes notices.
    const closePipes = (): void => {
      for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
    };
    client.once("close", closePipes);
    channel.on("close", () => {
      client.off("close", closePipes);
      closePipes();
    });
  }
}

function forward(accept: () => ServerChannel, reject: () => void, end: { port: number; host: string } | { path: string }): void {
  const far = connect(end);
  far.on("error", reject);
  far.on("connect", () => {
    far.off("error", reject);
    const channel = accept();
    far.on("error", () => channel.destroy());
    channel.on("error", () => far.destroy());
    channel.pipe(far).pipe(channel);
  });
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}
