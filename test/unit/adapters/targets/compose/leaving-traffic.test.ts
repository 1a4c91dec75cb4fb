import { mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ComposeDriver, type ComposeDriverOptions } from "../../../../../cli/src/adapters/targets/compose/compose-driver.js";
import { readOrder } from "../../../../../cli/src/adapters/targets/compose/orders.js";
import { Failed, TargetUnreachable } from "../../../../../cli/src/domain/errors.js";
import { HostLayout } from "../../../../../cli/src/domain/compose/layout.js";
import { ms } from "../../../../../cli/src/domain/units.js";
import type { Lease } from "../../../../../cli/src/ports.js";
import { plainDriver, plainNode } from "../../../../support/compose-driver.js";
import { until } from "../../../../support/until.js";
import { ScriptedHost, type Reply } from "./scripted-host.js";

const id = "index-r1-00000001-a";
const never = (): never => {
  throw new Error("nothing of this has to do with traffic");
};

/** Answers on a socket of the host, as JSON. */
async function answering(socket: string, answer: () => unknown): Promise<Server> {
  mkdirSync(dirname(socket), { recursive: true });
  const server = createServer((_, response) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(answer()));
  });
  await once(server.listen(socket), "listening");
  return server;
}

describe("an instance that leaves traffic", () => {
  let host: ScriptedHost;
  let driver: ComposeDriver;
  let lease: Lease;
  let servers: Server[];
  /** Requests that the proxy counts; null for a proxy that does not say. */
  let inFlight: number | null;
  let said: string[];
  /** The place that these requests are in. */
  let place: string;
  /** What every attempt to reach the host ends with, and how many there were. */
  let lost: Error | null;
  let attempts: number;
  let asked: number;
  let ofInstance: readonly Reply[];

  beforeEach(async () => {
    host = new ScriptedHost();
    lease = host.takeLease();
    [inFlight, asked, said, place] = [1, 0, [], "index-a:8003"];
    ofInstance = [
      { to: `ps*dev.gpuctl.instance=${id}`, stdout: "c-old\n" },
      { to: "*State.Running*", stdout: "true\n" },
    ];
    host.replies([...ofInstance, ...proxyIs("running")]);
    mkdirSync(join(host.root, "leases"));
    writeFileSync(join(host.root, "leases/00000002.lease"), "owner\n");
    writeFileSync(join(host.root, `gates/${id}`), "open\n");
    const layout = new HostLayout(join(host.directory, "data"), "shop", "prod");
    [lost, attempts] = [null, 0];
    const gate = (): string => (host.text(`gates/${id}`) === "open\n" ? "open" : "paused");
    servers = [
      await answering(layout.private(id), () => ({ gate: gate(), checks: { "index-public": gate() } })),
      await answering(layout.proxyAdmin, () => {
        asked += 1;
        return inFlight === null ? "an error" : [{ address: place, num_requests: inFlight, fails: 0 }];
      }),
    ];
    const connect: ScriptedHost["connect"] = (signal) => {
      if (lost === null) return host.connect(signal);
      attempts += 1;
      return Promise.reject(lost);
    };
    driver = driverOn(host, connect, (text) => said.push(text));
  });
  afterEach(async () => {
    for (const server of servers) server.close();
    await host.dispose();
  });

  it("is waited for while the proxy counts a request to it", async () => {
    const closing = driver.close(id, ms(60_000), lease);
    await until(() => asked > 2, "the proxy is asked again and again");
    expect(host.changes()).not.toContain("docker update --restart no c-old");
    inFlight = 0;
    const { drained, waitedMs } = await closing;
    expect(drained).toBe(true);
    expect(waitedMs).toBeGreaterThan(0);
    expect(host.changes()).toEqual(["docker update --restart no c-old"]);
  });

  it("is left alone with what it has not answered in time, and that is said", async () => {
    expect(await driver.close(id, ms(300), lease)).toMatchObject({ drained: false });
  });

  it("is waited for to the end of its time while the proxy cannot be asked; then nobody knows, and that is what is said", async () => {
    inFlight = null;
    const { drained, waitedMs } = await driver.close(id, ms(1500), lease);
    expect(drained).toBeNull();
    expect(waitedMs).toBeGreaterThanOrEqual(1500);
    expect(asked).toBeGreaterThan(2);
    await driver.suspend(id, { drain: ms(300), restoreAfter: ms(600_000) }, lease);
    expect(said).toEqual([
      `gpu-1: it is not known whether ${id} still had requests after 300 ms of draining: the proxy, which counts them, could not be asked`,
    ]);
    await driver.stop(id, null, lease);
  });

  it("is asked for again when the proxy answers after all", async () => {
    inFlight = null;
    const closing = driver.close(id, ms(60_000), lease);
    await until(() => asked > 2, "the proxy is asked again and again");
    inFlight = 0;
    expect(await closing).toMatchObject({ drained: true });
  });

  it("is not waited for when the proxy surely does not run; a Docker that does not answer says nothing of that", async () => {
    inFlight = null;
    host.replies([...ofInstance, ...proxyIs("exited")]);
    expect(await driver.close(id, ms(60_000), lease)).toMatchObject({ drained: true });
    writeFileSync(join(host.root, `gates/${id}`), "open\n");
    host.replies([
      {
        to: "ps*dev.gpuctl.environment=prod",
        code: 1,
      },
      ...ofInstance,
    ]);
    expect(await driver.close(id, ms(300), lease)).toMatchObject({ drained: null });
  });

  it.each([
    ["the connection to its host is lost", new TargetUnreachable("the connection to gpu-1 was lost")],
    ["its host says nothing in time", new Failed("it did not end on gpu-1")],
  ])("is waited for while %s, and asked for again when that is over", async (_, silence) => {
    const closing = driver.close(id, ms(60_000), lease);
    await until(() => asked > 2, "the proxy is asked again and again");
    lost = silence;
    await until(() => attempts > 4, "the host is asked again and again");
    [inFlight, lost] = [0, null];
    expect(await closing).toMatchObject({ drained: true });
    expect(host.changes()).toEqual(["docker update --restart no c-old"]);
  });

  it("is left alone from the moment in which nobody waits for it any more", async () => {
    const given = new AbortController();
    const closing = driver.close(id, ms(60_000), lease, given.signal);
    await until(() => asked > 2, "the proxy is asked again and again");
    given.abort(new Error("it took too long"));
    await expect(closing).rejects.toThrow("it took too long");
    expect(host.changes()).toEqual([]);
  });

  it("that had requests when its time was over is said before it is ended", async () => {
    await driver.suspend(id, { drain: ms(300), restoreAfter: ms(600_000) }, lease);
    expect(said).toEqual([`gpu-1: ${id} still had requests after 300 ms of draining`]);
    await driver.stop(id, null, lease);
  });

  it("is said also when it is the CPU instance of a service, before that is ended", async () => {
    const standby = "index-r1-00000001-cpu";
    const layout = new HostLayout(join(host.directory, "data"), "shop", "prod");
    const instances = [{ id: standby, service: "index", release: "r1-00000001", slot: "cpu", image: "caddy" }];
    const services = [{ service: "index", port: 18_003, cpuFallback: true, instances }];
    host.file("data/shop/prod/node.json", JSON.stringify({ schemaVersion: 1, hostMemory: 1024, services, images: [] }));
    writeFileSync(join(host.root, `gates/${standby}`), "open\n");
    const labels = { "dev.gpuctl.instance": standby };
    host.replies([
      { to: `ps*dev.gpuctl.instance=${standby}`, stdout: "c-cpu\n" },
      { to: "*State.Running*", stdout: "true\n" },
      { to: "ps*dev.gpuctl.environment=prod", stdout: "c-cpu\n" },
      {
        to: "inspect*c-cpu",
        stdout: JSON.stringify([{ Id: "c-cpu", State: { Status: "running" }, Config: { Labels: labels } }]),
      },
    ]);
    place = "index-cpu:8003";
    servers.push(await answering(layout.private(standby), () => ({ gate: "paused", checks: { "index-public": "paused" } })));
    await driver.standBy("index", null, {}, never, lease, new AbortController().signal);
    expect(said).toEqual([`gpu-1: ${standby} still had requests after 1 s of draining`]);
    expect(host.changes()).toContain("docker stop c-cpu");
  });

  it("makes room only after it was drained, and the host has promised to bring it back before it lost a request", async () => {
    const times = { drain: ms(60_000), restoreAfter: ms(600_000) };
    const suspending = driver.suspend(id, times, lease);
    await until(() => asked > 2, "the proxy is asked again and again");
    expect(host.text(`gates/${id}`)).toMatch(/^paused until \d+\n$/);
    expect(readOrder(host.text(`orders/${id}`) ?? "")).toMatchObject({ kind: "suspended" });
    expect(host.changes()).toEqual(["docker update --restart always c-old"]);
    inFlight = 0;
    await suspending;
    expect(host.changes().at(-1)).toBe("docker stop c-old");
    await driver.stop(id, null, lease);
  });

  it("takes requests again when whoever drains it is lost, which then cannot end it any more", async () => {
    const suspending = driver.suspend(id, { drain: ms(60_000), restoreAfter: ms(600_000) }, lease);
    const failed = expect(suspending).rejects.toThrow(`${id} could not make room`);
    await until(() => asked > 2, "it drains");
    writeFileSync(join(host.root, "leases/00000002.beat"), "         1          0\n");
    await until(() => host.text(`gates/${id}`) === "open\n", "it takes requests again");
    await until(() => host.text(`orders/${id}.claimed`) === null, "the timer has ended");
    inFlight = 0;
    await failed;
    expect(host.text(`gates/${id}`)).toBe("open\n");
    expect(host.changes()).not.toContain("docker stop c-old");
  });
});

/** What `docker inspect` shows of the environment's proxy. */
const proxyIs = (state: "running" | "exited"): readonly Reply[] => [
  { to: "ps*dev.gpuctl.environment=prod", stdout: "c-proxy\n" },
  {
    to: "inspect*c-proxy",
    stdout: JSON.stringify([{ Id: "c-proxy", State: { Status: state }, Config: { Labels: { "dev.gpuctl.role": "proxy" } } }]),
  },
];

function driverOn(host: ScriptedHost, connect: ScriptedHost["connect"], warned: (text: string) => void): ComposeDriver {
  const options = {
    ...plainDriver(),
    connect,
    guard: () => ":",
    node: {
      ...plainNode,
      node: "gpu-1",
      dataDirectory: join(host.directory, "data"),
      bind: "127.0.0.1",
      services: [{ service: "index", port: 18_003, cpuFallback: false }],
      proxyImage: `caddy@sha256:${"0".repeat(64)}`,
      budgets: { load: ms(1000), drain: ms(1000) },
    },
    progress: { emit: (event) => event.kind === "warning" && warned(event.text) },
    models: { find: never },
    imageOf: never,
    companions: [],
    gpus: { of: never, reserved: never, given: never },
    look: { needs: {} as ComposeDriverOptions["look"]["needs"], facts: never, tryGpu: never },
  } satisfies ComposeDriverOptions;
  return new ComposeDriver(options);
}
