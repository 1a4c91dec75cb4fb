import { execFileSync } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LocalExecutor } from "../../../cli/src/adapters/exec/local-executor.js";
import { HostState } from "../../../cli/src/adapters/remote-state/host-state.js";
import { RemoteReleaseFiles } from "../../../cli/src/adapters/remote-state/remote-release-files.js";
import { stateOnHosts, type StateOnHosts } from "../../../cli/src/adapters/remote-state/state-on-hosts.js";
import { SshHostConnector } from "../../../cli/src/adapters/ssh/host-connector.js";
import { ms, type Milliseconds } from "../../../cli/src/domain/units.js";
import type { Clock, RemoteHost } from "../../../cli/src/ports.js";
import type { ProcessTable } from "../../../cli/src/adapters/state/process-identity.js";

const busybox = "/usr/bin/busybox";

/** A PATH of BusyBox's own tools and no others, as on a small host: no flock, no options of GNU. */
export function busyboxTools(folder: string): string {
  const directory = join(folder, "busybox");
  mkdirSync(directory);
  for (const applet of execFileSync(busybox, ["--list"], { encoding: "utf8" }).trim().split("\n"))
    if (applet !== "flock") symlinkSync(busybox, join(directory, applet));
  return directory;
}

/** This machine as a host, through the adapter that real hosts are reached by. */
export function thisMachineAs(name: string, env: Readonly<Record<string, string | undefined>>): Promise<RemoteHost> {
  const connector = new SshHostConnector({
    nodes: [{ name, host: "local" }],
    ssh: { client: "node-ssh", knownHosts: null, connectTimeout: ms(10_000), acceptNew: false },
    env,
    executor: new LocalExecutor(env),
    projectFile: "/gpuctl.yaml",
  });
  return connector.connect(name, new AbortController().signal);
}

/** One host of the tests: a folder of this machine, with a clock and a boot id of its own. */
export class TestHost {
  readonly name: string;
  /** The environment's directory on it. */
  readonly root: string;
  readonly proc: string;
  readonly #env: Readonly<Record<string, string | undefined>>;
  #uptime = 1000;
  #boot = 1;

  /** @param made  by another process already, which tells its time */
  constructor(
    folder: string,
    name: string,
    env: Readonly<Record<string, string | undefined>> = { PATH: process.env["PATH"] },
    made = false,
  ) {
    this.name = name;
    this.root = join(folder, name, "shop's $(id) prod", "prod");
    this.proc = join(folder, name, "proc");
    this.#env = env;
    if (made) return;
    mkdirSync(join(this.proc, "sys/kernel/random"), { recursive: true });
    this.#tell();
  }

  /** Seconds pass on the host. */
  pass(seconds: number): void {
    this.#uptime += seconds;
    this.#tell();
  }

  reboot(): void {
    this.#boot += 1;
    this.#uptime = 5;
    this.#tell();
  }

  #tell(): void {
    writeFileSync(join(this.proc, "uptime"), `${this.#uptime.toFixed(2)} 9999.99\n`);
    writeFileSync(
      join(this.proc, "sys/kernel/random/boot_id"),
      `00000000-0000-4000-8000-${String(this.#boot).padStart(12, "0")}\n`,
    );
  }

  /** The host's state as one operator sees it, over a connection that a test may break. */
  seen(over: (host: RemoteHost) => RemoteHost = (host) => host): HostState {
    const connect = async (): Promise<RemoteHost> => over(await thisMachineAs(this.name, this.#env));
    return new HostState({ name: this.name, root: this.root, proc: this.proc, connect });
  }
}

/** Everything one operator has of an environment. */
export interface Operator extends StateOnHosts {
  states: readonly HostState[];
  files: readonly RemoteReleaseFiles[];
}

export interface Person {
  owner: string;
  pid: number;
  /** What tells the operator's machine from others. */
  machine: string;
  processes: ProcessTable;
  clock: Clock;
  /** Tests prove life by \`check\` when they want it; a heart of its own would do so in the middle of anything. */
  heartbeat?: Milliseconds;
}

export function operatorOf(hosts: readonly TestHost[], person: Person, over?: (host: RemoteHost) => RemoteHost): Operator {
  const states = hosts.map((host) => host.seen(over));
  const { machine, processes, heartbeat = ms(3_600_000), ...rest } = person;
  const state = stateOnHosts({ hosts: states, name: "demo/prod", here: { id: machine, processes }, heartbeat, ...rest });
  return { ...state, states, files: states.map((each) => new RemoteReleaseFiles(each)) };
}
