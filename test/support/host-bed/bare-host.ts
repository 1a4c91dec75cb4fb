/**
 * A host as a provider hands it out, for the script that prepares it: real sshd, apt, dpkg, iptables, ufw and python3 in namespaces of
 * their own. Stand-ins for what cannot be had: the GPU on the PCI bus, the kernel and its modules, Secure Boot, systemd, the driver and
 * toolkit packages; Docker is one too unless its engine is asked for, which is Debian's real one.
 */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Bed } from "../bed/bed.js";
import type { BedHost } from "../bed/host.js";
import { cacheDirectory, prepared } from "../bed/prepared.js";
import { must, run, type Ran, type RunOptions } from "../bed/shell.js";
import { repository } from "../sandbox.js";
import { until } from "../until.js";
import { systems, type System } from "./systems.js";

export const script = join(repository, "infra/host/prepare-host.sh");

export interface BareHostOptions {
  system?: System;
  /** Kernel that runs; by default the one that the distribution has modules for. */
  kernel?: string;
  /** NVIDIA GPUs on the PCI bus. */
  gpus?: number;
  secureBoot?: boolean;
  /** Debian's real engine instead of the stand-in. */
  engine?: boolean;
}

/** One line of the script's log. */
export interface LogLine {
  step: string;
  event: "start" | "end" | "warning";
  result?: string;
  detail?: string;
}

export interface Prepared extends Ran {
  lines: LogLine[];
  /** Steps that changed something. */
  changed: string[];
  seconds: number;
}

/** What the script left as its result. */
export interface HostResult {
  state: string;
  step: string;
  reason: string | null;
  nextStep: string | null;
  gpus: { uuid: string; name: string; memory: number }[];
  driver: string | null;
  docker: string | null;
  toolkit: string | null;
  kernel: string;
}

/** Values that most tests begin with; a null takes one away. */
const usual: Readonly<Record<string, string>> = {
  GPUCTL_GPU: "auto",
  GPUCTL_DEPLOY_USER: "ops",
  GPUCTL_AUTHORIZED_KEY: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2ZkyTyZ0Hh0vTzkaT5cGxNoTtpDDlYvQSBKfYgfbBd ops@desk",
  GPUCTL_REBOOT: "no",
  GPUCTL_REVISION: "1",
  GPUCTL_DOCKER_REPOSITORY: "file:///srv/mirror/docker",
  GPUCTL_TOOLKIT_REPOSITORY: "file:///srv/mirror/toolkit",
  GPUCTL_DRIVER_REPOSITORY: "file:///srv/mirror/driver",
};

export function values(changes: Readonly<Record<string, string | null>> = {}): string {
  const all = Object.entries({ ...usual, ...changes }).filter(([, text]) => text !== null);
  return all.map(([key, text]) => `${key}=${text ?? ""}\n`).join("");
}

/** The bed's base has an engine that no package brought; a bare host has none. */
const hidden = [
  "usr/sbin/dockerd",
  "usr/sbin/docker-proxy",
  "usr/bin/docker",
  "usr/bin/docker-init",
  "usr/bin/docker-compose",
  "usr/bin/containerd",
  "usr/bin/containerd-shim-runc-v2",
  "usr/libexec/docker",
  "etc/apt/sources.list",
];

export class BareHost {
  readonly bed: Bed;
  readonly host: BedHost;
  readonly #base: string;
  readonly #mirror: string;

  private constructor(bed: Bed, base: string, mirror: string) {
    this.bed = bed;
    this.host = bed.host("box");
    this.#base = base;
    this.#mirror = mirror;
  }

  /** Environment of a run that `killWhen` is meant for. */
  static readonly killing = "BASH_ENV=/etc/stand-in/kill.sh";

  static async start(): Promise<BareHost> {
    const { host } = await prepared();
    const mirror = (await must(join(import.meta.dirname, "packages.sh"), [cacheDirectory(), host])).trim();
    return new BareHost(await Bed.start([{ name: "box" }]), host, mirror);
  }

  stop(): Promise<void> {
    return this.bed.stop();
  }

  /** A new disk, and the host on it. */
  async fresh(options: BareHostOptions = {}): Promise<void> {
    const { system = "ubuntu-24.04", gpus = 1, secureBoot = false } = options;
    await this.host.powerOff();
    await this.host.install();
    this.#hideEngine();
    const { release, kernel } = systems[system];
    this.write("etc/os-release", release);
    this.write("etc/stand-in/kernel", `${options.kernel ?? kernel}\n`);
    this.write("etc/stand-in/pci", Array.from({ length: gpus }, (_, n) => `0${n + 1}:00.0 0302: 10de:1eb8 (rev a1)\n`).join(""));
    if (secureBoot) this.write("etc/stand-in/secure-boot", "");
    this.write("etc/apt/sources.list.d/archive.list", "deb [trusted=yes] file:///srv/mirror/archive ./\n");
    this.write("etc/dpkg/dpkg.cfg.d/bed", "force-unsafe-io\n");
    this.#mirrorOf(options.engine === true);
    cpSync(join(import.meta.dirname, "stand-ins"), join(this.host.root, "usr/local/sbin"), { recursive: true });
    cpSync(script, join(this.host.root, "root/prepare-host.sh"), { recursive: true });
    this.bed.writeKnownHosts();
    await this.powerOn();
  }

  /** Starts it as systemd would: with what is enabled. */
  async powerOn(): Promise<void> {
    await this.host.powerOn({ waitForDocker: false });
    await this.host.must(["touch", "/run/stopped/docker"]);
    await this.host.exec(["pkill", "-x", "dockerd"]);
    await this.host.exec(["pkill", "-f", "sleep infinity"]);
    await until(async () => (await this.host.exec(["pgrep", "-x", "dockerd"])).code === 1, "the bed's own Docker ends", 20_000);
    await this.host.must(["mkdir", "-p", "/run/systemd/system"]);
    await this.host.must(["mount", "-t", "tmpfs", "tmpfs", "/sys/module"]);
    await this.host.must(["systemctl", "boot"]);
  }

  /** Restarts when the script has asked for it, with another kernel when one is given. */
  async restartAsAsked(kernel?: string): Promise<void> {
    await until(() => existsSync(join(this.host.root, "var/reboot-asked")), "a restart is asked for", 60_000);
    await this.host.powerOff();
    rmSync(join(this.host.root, "var/reboot-asked"));
    if (kernel !== undefined) this.write("etc/stand-in/kernel", `${kernel}\n`);
    await this.powerOn();
  }

  /** Runs the script by SSH, with values on stdin. */
  async prepare(input: string = values(), argv: readonly string[] = ["-"], env = ""): Promise<Prepared> {
    const started = performance.now();
    const ran = await this.ssh(`${env} bash /root/prepare-host.sh ${argv.join(" ")}`, { input });
    const lines = ran.stdout
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as LogLine);
    const changed = lines.filter(({ event, result }) => event === "end" && result === "done").map(({ step }) => step);
    return { ...ran, lines, changed, seconds: (performance.now() - started) / 1000 };
  }

  /** Makes bash end itself with SIGKILL right before the first command that a condition in bash is true for. */
  killWhen(condition: string): void {
    this.write("etc/stand-in/kill.sh", `set -T\ntrap '[[ ${condition} ]] && kill -9 $$' DEBUG\n`);
  }

  ssh(command: string, options: RunOptions = {}): Promise<Ran> {
    return run("ssh", [...this.bed.sshArguments(this.host), command], { timeoutMs: 120_000, ...options });
  }

  result(): HostResult {
    return JSON.parse(this.read("var/lib/gpuctl/host/result.json")) as HostResult;
  }

  read(path: string): string {
    return readFileSync(join(this.host.root, path), "utf8");
  }

  write(path: string, text: string): void {
    const file = join(this.host.root, path);
    mkdirSync(join(file, ".."), { recursive: true });
    // A link of the base would lead out of the host while it is off.
    rmSync(file, { force: true });
    writeFileSync(file, text);
  }

  /** The distribution has brought out a newer driver and kernel. */
  async newerArchive(): Promise<void> {
    const moves = "cd /srv/mirror && for each in archive driver; do rm -rf $each && mv newer/$each $each || exit; done";
    await this.host.must(["sh", "-c", moves]);
  }

  #hideEngine(): void {
    for (const path of hidden) {
      mkdirSync(join(this.host.root, path, ".."), { recursive: true });
      execFileSync("mknod", [join(this.host.root, path), "c", "0", "0"]);
    }
    const status = readFileSync(join(this.#base, "var/lib/dpkg/status"), "utf8");
    const packages = status.split("\n\n").filter((each) => !/^Package: runc$/m.test(each));
    this.write("var/lib/dpkg/status", packages.join("\n\n"));
  }

  #mirrorOf(engine: boolean): void {
    const target = join(this.host.root, "srv/mirror");
    mkdirSync(target, { recursive: true });
    for (const name of readdirSync(this.#mirror)) {
      if (name === "complete" || name === (engine ? "docker" : "engine")) continue;
      execFileSync("cp", ["-al", join(this.#mirror, name), join(target, name === "engine" ? "docker" : name)]);
    }
  }
}
