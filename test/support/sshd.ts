import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { freePorts } from "./sandbox.js";
import { FaultyLine, type KeyPair } from "./ssh-server.js";
import { until } from "./until.js";

const program = "/usr/sbin/sshd";

/** The real sshd, as an ordinary process on a port of the loopback, with keys of its own, behind a line that can fail. */
export class RealSshd {
  readonly line: FaultyLine;
  readonly folder: string;
  readonly #port: number;
  readonly #extra: string;
  #process: ChildProcess | null = null;

  private constructor(line: FaultyLine, folder: string, port: number, extra: string) {
    this.line = line;
    this.folder = folder;
    this.#port = port;
    this.#extra = extra;
  }

  /** @param extra  more lines of sshd_config */
  static async start(userKey: KeyPair, extra = ""): Promise<RealSshd> {
    const folder = mkdtempSync(join(tmpdir(), "gpuctl-sshd-"));
    const [port = 0] = await freePorts(1);
    const server = new RealSshd(await FaultyLine.open(() => port), folder, port, extra);
    writeFileSync(join(folder, "authorized"), `${userKey.public}\n`);
    // sshd wants this folder when root starts it; a service manager makes it otherwise.
    if (process.getuid?.() === 0) mkdirSync("/run/sshd", { recursive: true, mode: 0o755 });
    server.makeHostKey();
    await server.#launch();
    return server;
  }

  get port(): number {
    return this.line.port;
  }

  get user(): string {
    return userInfo().username;
  }

  get hostKey(): string {
    return readFileSync(join(this.folder, "host.pub"), "utf8").trim();
  }

  /** Another host key, shown from the next start on. */
  makeHostKey(type = "ed25519"): void {
    for (const name of ["host", "host.pub"]) rmSync(join(this.folder, name), { force: true });
    const made = spawnSync("ssh-keygen", ["-q", "-t", type, "-N", "", "-f", join(this.folder, "host")], { encoding: "utf8" });
    if (made.status !== 0) throw new Error(made.stderr);
  }

  async restart(): Promise<void> {
    await this.#stop();
    this.line.cut();
    await this.#launch();
  }

  async close(): Promise<void> {
    await this.line.close();
    await this.#stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #launch(): Promise<void> {
    const settings = [
      `ListenAddress 127.0.0.1:${this.#port}`,
      `HostKey ${join(this.folder, "host")}`,
      `AuthorizedKeysFile ${join(this.folder, "authorized")}`,
      "PidFile none",
      "UsePAM no",
      "StrictModes no",
      "PasswordAuthentication no",
      "PermitRootLogin prohibit-password",
      // Every connection of a test counts against the limit on starts, also those that a test breaks off.
      "MaxStartups 100:1:200",
      this.#extra,
    ];
    const file = join(this.folder, "sshd_config");
    writeFileSync(file, settings.join("\n"));
    let said = "";
    const server = spawn(program, ["-D", "-e", "-f", file], { stdio: ["ignore", "ignore", "pipe"] });
    server.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    this.#process = server;
    await until(async () => {
      if (server.exitCode !== null) throw new Error(`sshd did not start: ${said}`);
      return accepts(this.#port);
    }, "sshd listens");
  }

  async #stop(): Promise<void> {
    const server = this.#process;
    if (server?.exitCode !== null) return;
    const ended = once(server, "exit");
    server.kill("SIGTERM");
    await ended;
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
