import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { SystemClock } from "../../../cli/src/adapters/clock/system-clock.js";
import { PackageCodeSource } from "../../../cli/src/adapters/code/packaged-code.js";
import { NodeHttpClient } from "../../../cli/src/adapters/http/node-http-client.js";
import { FileLeaseStore } from "../../../cli/src/adapters/leases/file-lease-store.js";
import { FileAuditLog } from "../../../cli/src/adapters/audit/file-audit-log.js";
import { HashCache } from "../../../cli/src/adapters/models/file-hash.js";
import { FileModelStore } from "../../../cli/src/adapters/models/file-model-store.js";
import { ModelLock } from "../../../cli/src/adapters/models/model-lock.js";
import { cacheHome, currentUid, runDirectory } from "../../../cli/src/adapters/state/directories.js";
import { LinuxProcessTable } from "../../../cli/src/adapters/state/process-identity.js";
import { readKeeperIdentity } from "../../../cli/src/adapters/targets/process/desired-file.js";
import { listeningPorts } from "../../../cli/src/adapters/targets/process/listening-ports.js";
import { ProcessDriver, type ProcessDriverOptions } from "../../../cli/src/adapters/targets/process/process-driver.js";
import type { ServiceSpec } from "../../../cli/src/domain/release.js";
import { ms } from "../../../cli/src/domain/units.js";
import type { Lease } from "../../../cli/src/ports.js";
import { freePorts, repository } from "../../support/sandbox.js";
import { sourceWheel } from "../../support/source-wheel.js";
import { until } from "../../support/until.js";
import type { DriverWorld } from "./driver-world.js";

/** One environment of the process target with its own state, port, wheel and real keeper. */
export class ProcessWorld implements DriverWorld {
  readonly driver: ProcessDriver;
  readonly managerListens = false;
  readonly directory: string;
  readonly state: string;
  readonly #options: ProcessDriverOptions;
  readonly #base: ServiceSpec;
  readonly #leases: FileLeaseStore;
  readonly #processes = new LinuxProcessTable();

  private constructor(directory: string, base: ServiceSpec, code: PackageCodeSource) {
    this.directory = directory;
    this.state = join(directory, "state");
    this.#base = base;
    const clock = new SystemClock();
    const { state } = this;
    const audit = new FileAuditLog(state, "tester@here", clock);
    this.#leases = new FileLeaseStore({
      state,
      name: "contract/local",
      owner: "tester@here",
      clock,
      audit,
      processes: this.#processes,
    });
    const cache = cacheHome(process.env);
    const store = join(directory, "models");
    this.#options = {
      directories: { state, run: this.run, cache, models: store },
      env: { PATH: process.env["PATH"], HOME: homedir() },
      clock,
      http: new NodeHttpClient(),
      models: new FileModelStore(store, new ModelLock(join(directory, "gpuctl.yaml")), new HashCache(join(directory, "cache"))),
      code,
      processes: this.#processes,
    };
    this.driver = new ProcessDriver(this.#options);
  }

  static async create(options: { name?: string } = {}): Promise<ProcessWorld> {
    const directory = mkdtempSync(join(tmpdir(), `gpuctl-driver-${options.name ?? ""}`));
    const code = new PackageCodeSource(repository, { GPUCTL_WHEEL: sourceWheel(directory) });
    const [port = 0] = await freePorts(1);
    const { wheel, file, version, lock } = await code.current();
    const base: ServiceSpec = {
      service: "index",
      code: { wheel, file, version },
      python: { lock },
      model: null,
      device: { prefer: "cpu", require: null, proof: "self" },
      env: { GPUCTL_DEVICE: "cpu", GPUCTL_INDEX_DIMENSION: "4", GPUCTL_INDEX_GENERATION: "contract" },
      secrets: {},
      listen: { host: "127.0.0.1", port },
    };
    return new ProcessWorld(directory, base, code);
  }

  get run(): string {
    return runDirectory(join(this.directory, "state"), currentUid());
  }

  /** The same process may hold lease after lease here: what counts is that each is newer. */
  async lease(): Promise<Lease> {
    await this.#leases.break(true);
    return this.#leases.acquire("contract", ms(0), new AbortController().signal);
  }

  spec(settings: Readonly<Record<string, string>> = {}): ServiceSpec {
    return { ...this.#base, env: { ...this.#base.env, ...settings } };
  }

  brokenSpec(): ServiceSpec {
    return this.spec({ GPUCTL_INDEX_DIMENSION: "four" });
  }

  publicUrl(spec: ServiceSpec): string {
    return `http://${spec.listen.host}:${spec.listen.port.toString()}`;
  }

  /** The driver of another version of gpuctl, with the same code. */
  withVersion(version: string): ProcessDriver {
    const { code } = this.#options;
    return new ProcessDriver({ ...this.#options, code: { current: async () => ({ ...(await code.current()), version }) } });
  }

  async keeperPid(): Promise<number> {
    const keeper = await readKeeperIdentity(join(this.state, "keeper/keeper.json"));
    if (keeper === null) throw new Error("no keeper runs");
    return keeper.pid;
  }

  /** Keeper processes of this world, by their command line. */
  keepers(): number[] {
    return this.#ownPids().filter((pid) =>
      readFileSync(`/proc/${pid.toString()}/cmdline`, "utf8").includes("gpuctl_serving.keeper"),
    );
  }

  async killManager(): Promise<void> {
    await this.#kill(await this.keeperPid(), "the keeper is gone");
  }

  async killInstance(pid: number): Promise<void> {
    await this.#kill(pid, "the instance is gone");
  }

  async #kill(pid: number, what: string): Promise<void> {
    const startTime = this.#processes.startTime(pid);
    process.kill(pid, "SIGKILL");
    await until(() => this.#processes.startTime(pid) !== startTime || startTime === null, what);
  }

  async leftovers(): Promise<readonly string[]> {
    const sockets = existsSync(this.run) ? readdirSync(this.run) : [];
    const { port } = this.#base.listen;
    const listening = (await listeningPorts()).filter((each) => each.port === port).map(() => `port ${port.toString()}`);
    return [...this.#ownPids().map((pid) => `pid ${pid.toString()}`), ...sockets, ...listening];
  }

  /** Ends by pid whatever a failed test left. */
  async dispose(): Promise<void> {
    for (const pid of this.#ownPids()) process.kill(pid, "SIGKILL");
    await until(() => this.#ownPids().length === 0, "everything is gone");
    rmSync(this.directory, { recursive: true, force: true });
    if (!this.run.startsWith(this.directory)) rmSync(this.run, { recursive: true, force: true });
  }

  /** Processes whose command line or environment names this world's own directory. */
  #ownPids(): number[] {
    const read = (pid: string, file: string): string => {
      try {
        return readFileSync(`/proc/${pid}/${file}`, "utf8");
      } catch {
        return "";
      }
    };
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
      .filter((pid) => read(pid, "cmdline").includes(this.state) || read(pid, "environ").includes(`${this.state}/instances/`))
      .map(Number);
  }
}
