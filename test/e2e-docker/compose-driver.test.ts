/** The driver of the compose target on a host of the bed: real SSH, real Docker, Caddy, and the services' own image for CPUs. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SystemClock } from "../../cli/src/adapters/clock/system-clock.js";
import { LocalExecutor } from "../../cli/src/adapters/exec/local-executor.js";
import { fencedStatus } from "../../cli/src/adapters/remote-state/fence.js";
import { RemoteNodeInspector } from "../../cli/src/adapters/preflight/remote-node-inspector.js";
import { SshHostConnector } from "../../cli/src/adapters/ssh/host-connector.js";
import { ComposeDriver } from "../../cli/src/adapters/targets/compose/compose-driver.js";
import type { NodeLook } from "../../cli/src/adapters/targets/compose/gpu-trials.js";
import { readMetrics } from "../../cli/src/domain/compose/caddy-output.js";
import { ownershipFilters } from "../../cli/src/domain/compose/labels.js";
import { composeProject } from "../../cli/src/domain/compose/names.js";
import type { ServiceSpec } from "../../cli/src/domain/release.js";
import { ms } from "../../cli/src/domain/units.js";
import type { Lease } from "../../cli/src/ports.js";
import { describeDriver } from "../contract/driver/driver-suite.js";
import { instanceOf, type DriverWorld } from "../contract/driver/driver-world.js";
import { Bed } from "../support/bed/bed.js";
import type { BedHost } from "../support/bed/host.js";
import { caddyImage, serviceImage } from "../support/bed/images.js";
import { limitsOf, memoryMiB } from "../support/bed/limits.js";
import { slowRequest, type SlowRequest } from "../support/bed/slow-request.js";
import { pinned } from "../support/bed/stack.js";
import { plainDriver, plainNeeds, plainNode } from "../support/compose-driver.js";
import { specFor } from "../support/records.js";
import { until } from "../support/until.js";

const never = new AbortController().signal;
let bed: Bed;
let host: BedHost;
/** By the registry's digests. */
const images = { services: "", proxy: "" };

beforeAll(async () => {
  const [services, caddy] = [await serviceImage(), await caddyImage()];
  bed = await Bed.start([{ name: "box" }]);
  host = bed.host("box");
  writeFileSync(join(bed.folder, "ssh_config"), "");
  images.services = await pinned(bed, host, services);
  images.proxy = await pinned(bed, host, caddy);
}, 1_800_000);

afterAll(async () => {
  await bed.stop();
});

let worlds = 0;

/** One environment on the host. */
class ComposeWorld implements DriverWorld {
  readonly driver: ComposeDriver;
  readonly managerListens = true;
  readonly project: string;
  readonly #number: number;
  readonly #hosts: SshHostConnector;
  #token = 0;

  constructor() {
    this.#number = worlds++;
    this.project = `shop${this.#number}`;
    this.#hosts = new SshHostConnector({
      nodes: [{ name: "box", host: host.address, user: "root", identityFile: bed.clientKey }],
      ssh: { client: "node-ssh", knownHosts: bed.knownHosts, connectTimeout: ms(20_000), acceptNew: false },
      env: process.env,
      executor: new LocalExecutor(process.env),
      projectFile: join(bed.folder, "gpuctl.yaml"),
      configFile: join(bed.folder, "ssh_config"),
    });
    const newest = `/run/newest-${this.project}`;
    this.driver = new ComposeDriver({
      ...plainDriver(),
      connect: (signal) => this.#hosts.connectAsRoot("box", signal),
      guard: ({ token }) =>
        `[ ${token} -ge "$(cat ${newest})" ] || { echo "lease ${token} is not the newest" >&2; exit ${fencedStatus}; }`,
      node: {
        ...plainNode,
        project: this.project,
        node: "box",
        dataDirectory: "/var/lib/gpuctl",
        bind: host.address,
        services: [{ service: "index", port: this.port, cpuFallback: false }],
        proxyImage: images.proxy,
        budgets: { load: ms(120_000), drain: ms(10_000) },
      },
      models: { find: async () => null },
      imageOf: () => ({ reference: images.services, local: null }),
      companions: [{ reference: images.proxy, local: null }],
      gpus: { of: async () => null, reserved: async () => null, given: async () => [] },
      look: this.#look(),
    });
  }

  get port(): number {
    return 18_000 + this.#number;
  }

  async lease(): Promise<Lease> {
    this.#token += 1;
    const token = this.#token;
    writeFileSync(join(host.root, `run/newest-${this.project}`), token.toString());
    return { token, check: async () => undefined, release: async () => undefined };
  }

  spec(settings: Readonly<Record<string, string>> = {}): ServiceSpec {
    return specFor({
      service: "index",
      model: null,
      device: { prefer: "cpu", require: null, proof: "self" },
      env: { GPUCTL_DEVICE: "cpu", GPUCTL_INDEX_DIMENSION: "4", GPUCTL_INDEX_GENERATION: "contract", ...settings },
      listen: { host: host.address, port: this.port },
    });
  }

  #look(): NodeLook {
    const inspector = new RemoteNodeInspector(this.#hosts, new SystemClock());
    const needs = { ...plainNeeds, node: "box", bind: host.address, own: ownershipFilters(this.project, "prod") };
    return {
      needs,
      facts: () => inspector.inspect("box", needs.dataDirectory, never),
      tryGpu: (probe, signal) => inspector.tryGpu("box", probe, signal),
    };
  }

  brokenSpec(): ServiceSpec {
    return this.spec({ GPUCTL_INDEX_DIMENSION: "four" });
  }

  publicUrl({ listen }: ServiceSpec): string {
    return `http://${listen.host}:${listen.port}`;
  }

  async killManager(): Promise<void> {
    await host.must(["docker", "kill", `${composeProject(this.project, "prod")}_proxy`]);
  }

  async killInstance(pid: number): Promise<void> {
    await host.must(["sh", "-c", 'kill -KILL "$1" && while [ -e "/proc/$1" ]; do sleep 0.01; done', "kill", pid.toString()]);
  }

  async leftovers(): Promise<readonly string[]> {
    const filter = `label=dev.gpuctl.project=${this.project}`;
    const containers = (await host.must(["docker", "ps", "--all", "--quiet", "--filter", filter])).split("\n").filter(Boolean);
    const left = ["run", "gates", "secrets", "compose.yaml"].filter((name) => existsSync(join(this.root, name)));
    return [...containers, ...left];
  }

  /** The environment's directory, as this machine sees it. */
  get root(): string {
    return join(host.root, `var/lib/gpuctl/${this.project}/prod`);
  }

  async dispose(): Promise<void> {
    await this.driver.destroy(await this.lease()).catch(() => undefined);
    await this.#hosts.close();
  }
}

describe("a host", () => {
  it("gets a first release, serves over restarts of Docker and of the container, and moves to the next without a lost request", async () => {
    const world = new ComposeWorld();
    const lease = await world.lease();
    const { driver } = world;
    const old = instanceOf(world.spec(), 1, "a");
    expect(await driver.stage(old.spec, "code", never)).toContain("box");
    expect(await driver.staged(old.spec)).toBe(true);
    await driver.ensureManager(lease, never);
    const serve = async (number: number, slot: "a" | "b"): Promise<string> => {
      const instance = instanceOf(world.spec(), number, slot);
      await driver.start(instance, {}, lease);
      await until(async () => (await driver.health(instance.id)).status === "healthy", `${instance.id} is healthy`, 60_000);
      return instance.id;
    };
    const a = await serve(1, "a");
    await driver.open(a, lease);
    const url = `${world.publicUrl(old.spec)}/health`;
    const status = (): Promise<number> =>
      fetch(url, { signal: AbortSignal.timeout(10_000) }).then(
        (answer) => answer.status,
        () => 0,
      );
    expect(await status()).toBe(200);

    const counts = new Map<number, number>();
    const over = new AbortController();
    const client = (async () => {
      while (!over.signal.aborted) {
        const said = await status();
        counts.set(said, (counts.get(said) ?? 0) + 1);
      }
    })();
    const proxy = `${composeProject(world.project, "prod")}_proxy`;
    const startedAt = (): Promise<string> => host.must(["docker", "inspect", "--format", "{{.State.StartedAt}}", proxy]);
    const before = await startedAt();
    const b = await serve(2, "b");
    await driver.open(b, lease);
    expect(await driver.close(a, ms(10_000), lease)).toMatchObject({ drained: true });
    // And back: a warm rollback is a gate.
    await driver.open(a, lease);
    await driver.close(b, ms(10_000), lease);
    over.abort();
    await client;
    expect([...counts.keys()]).toEqual([200]);
    expect(counts.get(200)).toBeGreaterThan(20);
    expect(await startedAt()).toBe(before);

    // As docs/guides/metrics.md has it, over the socket and as a Prometheus on the host does.
    const inside = `{{(index .NetworkSettings.Networks "${composeProject(world.project, "prod")}_inside").IPAddress}}`;
    const address = (await host.must(["docker", "inspect", "--format", inside, proxy])).trim();
    const admin = `/var/lib/gpuctl/${world.project}/prod/run/proxy/admin.sock`;
    for (const from of [["--unix-socket", admin, "http://localhost/metrics"], [`http://${address}:2020/metrics`]]) {
      const samples = readMetrics(await host.must(["curl", "-sf", ...from]));
      const answered = samples.filter(
        ({ name, labels }) => name === "caddy_http_request_duration_seconds_count" && labels["code"] === "200",
      );
      expect(Math.max(...answered.map(({ value }) => value))).toBeGreaterThan(counts.get(200) ?? 0);
    }

    await host.restartDocker();
    await until(async () => (await status()) === 200, "it serves after a restart of Docker", 60_000);
    const seen = (await driver.observe()).instances;
    expect(seen.find(({ id }) => id === a)).toMatchObject({ traffic: "open", process: { state: "running" } });
    expect(seen.find(({ id }) => id === b)?.process.state).not.toBe("running");
    expect((await driver.logTail(a, 200)).join("\n")).toContain('"event"');
    expect(readFileSync(join(world.root, "README.txt"), "utf8")).toContain(a);
    await world.dispose();
    expect(await world.leftovers()).toEqual([]);
  }, 300_000);
});

describe("what is still being answered when an instance is closed", () => {
  let world: ComposeWorld;
  let lease: Lease;
  let id: string;

  beforeAll(async () => {
    world = new ComposeWorld();
    lease = await world.lease();
    const { driver } = world;
    const instance = instanceOf(world.spec(), 1, "a");
    ({ id } = instance);
    await driver.stage(instance.spec, "code", never);
    await driver.ensureManager(lease, never);
    await driver.start(instance, {}, lease);
    await until(async () => (await driver.health(id)).status === "healthy", "it is healthy", 60_000);
  }, 180_000);
  afterAll(() => world.dispose());

  /** One that the proxy counts. */
  const held = async (): Promise<SlowRequest> => {
    await world.driver.open(id, lease);
    const request = slowRequest(`${world.publicUrl(world.spec())}/api/v1/vector-store/search`, { vector: [1, 0, 0, 0], k: 1 });
    await until(async () => (await inFlight()) === 1, "the proxy counts it", 30_000);
    return request;
  };
  const inFlight = async (): Promise<number | null | undefined> =>
    (await world.driver.observe()).instances.find((each) => each.id === id)?.inflight;

  it("is in containers with limits of memory and of processes, rotated logs, and time to end", async () => {
    await world.driver.open(id, lease);
    const [project, all] = [composeProject(world.project, "prod"), await memoryMiB(host)];
    const log = { driver: "local", options: { "max-size": "20m", "max-file": "5" } };
    const proxy = Math.min(1024, Math.floor(all / 2));
    const ofBoth = { restart: "always", stopSeconds: 45, log };
    const environment = expect.arrayContaining([`GOMEMLIMIT=${Math.floor(proxy * 0.9)}MiB`]) as string[];
    expect(await limitsOf(host, `${project}_proxy`)).toMatchObject({ ...ofBoth, memoryMiB: proxy, pids: 1024, environment });
    const instance = { ...ofBoth, memoryMiB: Math.floor(all * 0.9), pids: 2048 };
    expect(await limitsOf(host, `${project}_index-a`)).toMatchObject(instance);
  }, 180_000);

  it("is waited for, and answered", async () => {
    const request = await held();
    let closed = false;
    const closing = world.driver.close(id, ms(120_000), lease).finally(() => (closed = true));
    const gate = (): string => readFileSync(join(world.root, "gates", id), "utf8");
    await until(() => gate() === "paused\n", "the gate is shut", 30_000);
    // Longer than anything but the request would keep it.
    await new Promise((resolve) => setTimeout(resolve, 7000));
    expect(closed).toBe(false);
    expect(await inFlight()).toBe(1);
    expect(await request.finish()).toBe(200);
    const { drained, waitedMs } = await closing;
    expect(drained).toBe(true);
    expect(waitedMs).toBeGreaterThan(7000);
  }, 180_000);

  it("is left alone after the time for that, said, and answered all the same", async () => {
    const request = await held();
    expect(await world.driver.close(id, ms(2000), lease)).toMatchObject({ drained: false });
    expect(await inFlight()).toBe(1);
    expect(await request.finish()).toBe(200);
    await until(async () => (await inFlight()) === 0, "the proxy counts none", 30_000);
  }, 180_000);
});

describeDriver("compose", async () => new ComposeWorld());
