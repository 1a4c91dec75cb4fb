/** One host of a bed: its own root file system, network, processes, sshd and Docker Engine. Not a machine of its own: same kernel. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { listens } from "../listens.js";
import { until } from "../until.js";
import { Gpus, type GpuModel } from "./gpu.js";
import { connectHost, setCable } from "./network.js";
import { innerInit } from "./processes.js";
import { must, run, type Ran, type RunOptions } from "./shell.js";

export interface HostSpec {
  /** Small letters, digits and dashes. */
  name: string;
  /** None: a host without a GPU, without nvidia-smi and without CDI devices. */
  gpus?: readonly GpuModel[];
  /** Gives Docker a disk of this size, MiB, which a test may fill. By default it has what this machine has. */
  dockerMiB?: number;
}

/** What a bed gives to its hosts. */
export interface HostPlace {
  /** Folder of the bed; the host's own is below it. */
  folder: string;
  /** Root file system of every host. */
  base: string;
  /** Pid of the bed's first process. */
  fabric: number;
  /** Parent of its containers' control groups. */
  controlGroup: string;
  /** Its number in the bed. */
  number: number;
  address: string;
  /** Public key that may log in as root and as `deploy`, who may become root. */
  clientKey: string;
}

const script = join(import.meta.dirname, "host.sh");
const environment = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", LANG: "C.UTF-8" };
const startMs = 60_000;

export class BedHost {
  readonly name: string;
  readonly address: string;
  /** Null on a host without any. */
  readonly gpus: Gpus | null;
  readonly #spec: HostSpec;
  readonly #place: HostPlace;
  readonly #disk: string;
  #child: ChildProcess | null = null;
  #init: number | null = null;

  constructor(spec: HostSpec, place: HostPlace) {
    this.name = spec.name;
    this.address = place.address;
    this.#spec = spec;
    this.#place = place;
    this.#disk = join(place.folder, "hosts", spec.name);
    const models = spec.gpus ?? [];
    this.gpus = models.length === 0 ? null : new Gpus(join(this.#disk, "gpu"), () => this.root, models);
  }

  /** Its root file system as this machine sees it: to read and write files of it directly. */
  get root(): string {
    return this.#init === null ? join(this.#disk, "upper") : `/proc/${this.#init}/root`;
  }

  /** What a client's known_hosts says of it. */
  get hostKey(): string {
    const [kind = "", key = ""] = readFileSync(join(this.#disk, "upper/etc/ssh/ssh_host_ed25519_key.pub"), "utf8").split(" ");
    return `${kind} ${key}`;
  }

  /** Makes its disk: a new one after the first start, with another host key, is what a provider's re-image does. */
  async install(): Promise<void> {
    if (this.#init !== null) throw new Error(`${this.name} runs: power it off before its disk is made anew`);
    rmSync(this.#disk, { recursive: true, force: true });
    const keys = join(this.#disk, "upper/etc/ssh");
    mkdirSync(keys, { recursive: true });
    await must("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", this.name, "-f", join(keys, "ssh_host_ed25519_key")]);
    writeFileSync(join(this.#disk, "upper/etc/ssh/client_key.pub"), this.#place.clientKey);
    writeFileSync(join(this.#disk, "upper/etc/hostname"), `${this.name}\n`);
    writeFileSync(join(this.#disk, "upper/etc/hosts"), `127.0.0.1 localhost\n${this.address} ${this.name}\n`);
    // Nobody answers there, and says so at once.
    writeFileSync(join(this.#disk, "upper/etc/resolv.conf"), "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n");
    this.gpus?.install();
  }

  /** Starts it, and waits until sshd and Docker answer. */
  async powerOn({ waitForDocker = true } = {}): Promise<void> {
    const log = openSync(join(this.#place.folder, `${this.name}.log`), "a");
    const { fabric, base, controlGroup, address, number } = this.#place;
    const inBed = ["-t", String(fabric), "-m", "-n", "-p", "--"];
    const own = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "bash", script];
    const env = {
      ...environment,
      BASE: base,
      DISK: this.#disk,
      NAME: this.name,
      ADDRESS: `${address}/24`,
      CGROUP: `/${controlGroup}`,
      GPU: this.gpus?.kernelModule ?? "",
      DOCKER_MIB: this.#spec.dockerMiB?.toString() ?? "",
    };
    const child = spawn("nsenter", [...inBed, ...own], { env, stdio: ["ignore", log, log], detached: true });
    closeSync(log);
    this.#child = child;
    await until(() => this.#ended() || innerInit(child.pid ?? 0) !== null, `${this.name} starts`, startMs);
    const init = innerInit(child.pid ?? 0);
    if (init === null) throw new Error(`${this.name} did not start:\n${this.log()}`);
    await connectHost(fabric, this.#cable, init, number);
    // Until then its root is still this machine's, and nothing may be written there.
    const booted = (): boolean => this.#ended() || existsSync(`/proc/${init}/root/run/bed-booted`);
    await until(booted, `${this.name} boots`, startMs);
    if (this.#ended()) throw new Error(`${this.name} did not boot:\n${this.log()}`);
    this.#init = init;
    this.gpus?.loadModule();
    await this.#sshAnswers();
    if (waitForDocker) await this.dockerAnswers();
  }

  /** As if its power was cut: nothing gets to say good-bye. Its disk stays. */
  async powerOff(): Promise<void> {
    const [child, init] = [this.#child, this.#init];
    if (child === null || init === null) return;
    this.#init = null;
    this.#child = null;
    const ended = child.exitCode === null && child.signalCode === null ? once(child, "exit") : null;
    process.kill(init, "SIGKILL");
    await ended;
  }

  /** Waits for its end, when the bed around it ends. */
  async gone(): Promise<void> {
    const child = this.#child;
    this.#init = null;
    this.#child = null;
    if (child?.exitCode === null && child.signalCode === null) await once(child, "exit");
  }

  async reboot(): Promise<void> {
    await this.powerOff();
    await this.powerOn();
  }

  /** Runs a command on it as root, past sshd. */
  async exec(command: readonly string[], options: RunOptions = {}): Promise<Ran> {
    return run("nsenter", this.#inside(command), { ...options, env: { ...environment, ...options.env } });
  }

  /** The same for a command that must succeed; its stdout. */
  async must(command: readonly string[], options: RunOptions = {}): Promise<string> {
    return must("nsenter", this.#inside(command), { ...options, env: { ...environment, ...options.env } });
  }

  /** Ends Docker as systemd would, and starts it again: containers without live-restore go with it. */
  async restartDocker(): Promise<void> {
    await this.stopDocker();
    await this.startDocker();
  }

  async stopDocker(): Promise<void> {
    await this.must(["touch", "/run/stopped/docker"]);
    await this.exec(["pkill", "-TERM", "-x", "dockerd"]);
    await until(async () => (await this.exec(["pgrep", "-x", "dockerd"])).code === 1, `dockerd of ${this.name} ends`, startMs);
  }

  async startDocker(): Promise<void> {
    await this.must(["rm", "-f", "/run/stopped/docker"]);
    await this.dockerAnswers();
  }

  async dockerAnswers(): Promise<void> {
    const answers = async (): Promise<boolean> =>
      existsSync(join(this.root, "run/docker.sock")) && (await this.exec(["docker", "info"], { timeoutMs: 10_000 })).code === 0;
    await until(answers, `Docker of ${this.name} answers`, startMs).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.log()}`);
    });
  }

  async cutNetwork(): Promise<void> {
    await setCable(this.#place.fabric, this.#cable, "down");
  }

  async mendNetwork(): Promise<void> {
    await setCable(this.#place.fabric, this.#cable, "up");
  }

  /** Fills Docker's disk but for so much, MiB. Only on a host with a disk of its own for it. */
  async fillDisk(leaveMiB = 0): Promise<void> {
    if (this.#spec.dockerMiB === undefined) throw new Error(`${this.name} has no disk of its own: give it dockerMiB`);
    const free = Number((await this.must(["df", "-P", "-m", "/var/lib/docker"])).trim().split("\n").at(-1)?.split(/\s+/)[3]);
    if (free > leaveMiB) await this.must(["fallocate", "-l", `${free - leaveMiB}MiB`, "/var/lib/docker/filler"]);
  }

  async emptyDisk(): Promise<void> {
    await this.must(["rm", "-f", "/var/lib/docker/filler"]);
  }

  /** Sets the clock of every later ssh session off by so many seconds: what commands there see, not what Docker does. */
  async skewClock(seconds: number): Promise<void> {
    const preload = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    const offset = `FAKETIME=${seconds < 0 ? "-" : "+"}${Math.abs(seconds)}`;
    // What files say of themselves is no matter of the clock that reads it.
    const kept = "FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1";
    const lines = seconds === 0 ? "" : `SetEnv LD_PRELOAD=${preload} ${offset} ${kept}\n`;
    writeFileSync(join(this.root, "etc/ssh/sshd_config.d/clock.conf"), lines);
    const listener = async (): Promise<string> => (await this.exec(["pgrep", "-x", "-o", "sshd"])).stdout;
    const before = await listener();
    await this.must(["pkill", "-x", "sshd"]);
    await until(async () => !["", before].includes(await listener()), `sshd of ${this.name} starts again`, startMs);
    await this.#sshAnswers();
  }

  /** What its processes said last. */
  log(): string {
    const files = [join(this.#place.folder, `${this.name}.log`)];
    if (this.#init !== null) files.push(...["docker", "sshd"].map((name) => join(this.root, "var/log", `${name}.log`)));
    return files.map(tail).join("\n");
  }

  async #sshAnswers(): Promise<void> {
    await until(() => listens(this.address, 22, "data"), `sshd of ${this.name} answers`, startMs).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.log()}`);
    });
  }

  /** Name of its end at the bed's bridge. */
  get #cable(): string {
    return `host${this.#place.number}`;
  }

  #inside(command: readonly string[]): string[] {
    if (this.#init === null) throw new Error(`${this.name} is off`);
    return ["-t", String(this.#init), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--", ...command];
  }

  #ended(): boolean {
    return this.#child === null || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}

function tail(file: string): string {
  try {
    return `${file}:\n${readFileSync(file, "utf8").slice(-2000)}`;
  } catch {
    return "";
  }
}
