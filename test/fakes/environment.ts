import type { EnvironmentConfig, ServiceConfig } from "../../cli/src/domain/config/resolved.js";
import type { ServiceName } from "../../cli/src/domain/names.js";
import { ms } from "../../cli/src/domain/units.js";
import type { Context, ProgressEvent, TargetDriver } from "../../cli/src/ports.js";
import { InMemoryDriver } from "./in-memory-driver.js";
import { Interference, type Mischief } from "./interference.js";
import { Machine } from "./machine.js";
import { fakeModel } from "./service-behaviour.js";
import { SteppingClock } from "./stepping-clock.js";
import { FixedCode, FixedModels, InMemoryAudit, InMemoryLeases, InMemoryReleases, SecretsInMemory } from "./stores.js";

type Writable<T> = { -readonly [K in keyof T]: T[K] };
export type EditableConfig = Omit<Writable<EnvironmentConfig>, "services"> & {
  services: Partial<Record<ServiceName, Writable<ServiceConfig>>>;
};

/** One gpuctl process: its context, what it said, and a way to kill it. */
export interface Cli {
  ctx: Context;
  events: ProgressEvent[];
  interference: Interference;
  abort: AbortController;
}

/** Everything that outlives a gpuctl process: the machine, the records, the leases, the project file. */
export class Environment {
  readonly clock = new SteppingClock();
  readonly machine = new Machine();
  readonly driver = new InMemoryDriver(this.machine, this.clock);
  readonly releases = new InMemoryReleases();
  readonly leases = new InMemoryLeases();
  readonly audit = new InMemoryAudit();
  readonly models = new FixedModels([fakeModel("small", 4), fakeModel("large", 6), fakeModel("cross", null)]);
  readonly code = new FixedCode();
  readonly secrets = new SecretsInMemory();
  readonly config: EditableConfig;

  constructor(services: readonly ServiceName[] = ["embedder", "reranker", "index"]) {
    this.config = {
      project: "demo",
      projectFile: "/projects/demo/gpuctl.yaml",
      environment: "local",
      target: "process",
      bind: "127.0.0.1",
      timings: { load: ms(8000), warmUp: ms(8000), drain: ms(5000), soak: ms(3000), keepWarm: ms(600_000) },
      retain: 3,
      services: Object.fromEntries(services.map((service) => [service, serviceConfig(service)])),
      models: {},
    };
  }

  /** Changes one setting of a service, as an edit of the project file would. */
  set(service: ServiceName, name: string, value: string): void {
    this.service(service).env = { ...this.service(service).env, [name]: value };
  }

  unset(service: ServiceName, name: string): void {
    this.service(service).env = Object.fromEntries(Object.entries(this.service(service).env).filter(([key]) => key !== name));
  }

  service(service: ServiceName): Writable<ServiceConfig> {
    const found = this.config.services[service];
    if (found === undefined) throw new Error(`${service} is not configured`);
    return found;
  }

  /** A fresh gpuctl process on this machine. */
  cli(mischief: Mischief | null = null): Cli {
    const events: ProgressEvent[] = [];
    const abort = new AbortController();
    const interference = new Interference(mischief, abort);
    const at = <T extends object>(name: string, port: T): T => interference.around(name, port);
    const clock = interference.around("clock", this.clock, false);
    const ctx: Context = {
      config: structuredClone(this.config),
      driver: at<TargetDriver>("driver", this.driver),
      releases: at("releases", this.releases),
      leases: interference.aroundLeases(this.leases.of(() => interference.alive)),
      audit: at("audit", this.audit),
      models: this.models,
      code: this.code,
      secrets: this.secrets,
      http: { request: () => Promise.reject(new Error("no network in this test")) },
      executor: { run: () => Promise.reject(new Error("no processes in this test")) },
      clock,
      progress: { emit: (event) => void events.push(event) },
      signal: abort.signal,
      author: "ada@box",
      gpuctlVersion: "0.1.0",
    };
    return { ctx, events, interference, abort };
  }
}

function serviceConfig(service: ServiceName): ServiceConfig {
  return {
    service,
    port: { embedder: 8001, reranker: 8002, index: 8003 }[service],
    model: service === "index" ? null : "small",
    device: { prefer: "auto", require: null, proof: "self" },
    vramBudget: null,
    slo: null,
    env: {},
    secrets: {},
    benchmarkGate: null,
  };
}
