import { afterEach, describe, expect, test } from "vitest";
import { HcloudApi } from "../../cli/src/adapters/hcloud/hcloud-api.js";
import { NodeHttpClient } from "../../cli/src/adapters/http/node-http-client.js";
import { priceOf } from "../../cli/src/domain/cost/cloud.js";
import { Failed, GpuctlError, PreflightRefused, TargetUnreachable } from "../../cli/src/domain/errors.js";
import type { Clock } from "../../cli/src/ports.js";
import { startFakeHcloud, type FakeHcloud, type FakeHcloudOptions } from "../support/fake-hcloud/index.js";

const open: FakeHcloud[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((hcloud) => hcloud.close()));
});

/** Remembers how long it was asked to sleep, and does not. */
class SleeplessClock implements Clock {
  readonly slept: number[] = [];
  now = (): Date => new Date("2026-11-21T12:00:00Z");
  monotonic = (): never => {
    throw new Error("nobody asks");
  };
  sleep(duration: number): Promise<void> {
    this.slept.push(duration);
    return Promise.resolve();
  }
}

async function start(options: FakeHcloudOptions = {}, token?: string) {
  const hcloud = await startFakeHcloud(options);
  open.push(hcloud);
  const clock = new SleeplessClock();
  const signal = new AbortController().signal;
  const make = (endpoint: string): HcloudApi =>
    new HcloudApi({ http: new NodeHttpClient(), clock, signal, endpoint, token: async () => token ?? hcloud.token });
  return { hcloud, clock, api: make(hcloud.endpoint), make };
}

async function failure(promise: Promise<unknown>): Promise<GpuctlError> {
  const error = await promise.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof GpuctlError)) throw new Error(`expected a failure in words, got ${String(error)}`);
  return error;
}

test("a list is read to its last page, and only what the selector says", async () => {
  const { hcloud, api } = await start();
  for (let n = 0; n < 120; n++)
    hcloud.world.add("placement_groups", {
      name: `g${n}`,
      labels: { "managed-by": n % 2 === 0 ? "gpuctl" : "x" },
      type: "spread",
    });
  expect(await api.list("placement_groups", "managed-by=gpuctl")).toHaveLength(60);
  expect(hcloud.requests.map(({ query }) => new URLSearchParams(query).get("page"))).toEqual(["1", "2"]);
});

test("prices of every kind are those of the list, with backups on top", async () => {
  const { hcloud, api } = await start();
  const add = hcloud.world.add.bind(hcloud.world);
  const location = { name: "fsn1" };
  const labels = { "managed-by": "gpuctl" };
  add("servers", { name: "s", labels, server_type: { name: "ccx33" }, location, status: "off", backup_window: "22-02" });
  add("volumes", { name: "v", labels, size: 40, location, protection: { delete: true } });
  add("primary_ips", { name: "p", labels, type: "ipv4", location, assignee_id: 4 });
  add("load_balancers", { name: "l", labels, load_balancer_type: "lb11", location });
  add("servers", { name: "old", labels, server_type: { name: "cx11" }, location });
  const prices = await api.prices();
  const monthly = async (kind: Parameters<typeof api.list>[0]): Promise<(number | null)[]> =>
    (await api.list(kind, "managed-by=gpuctl")).map((one) => priceOf(one, prices)?.monthly ?? null);
  expect(await monthly("servers")).toEqual([expect.closeTo(144), null]);
  expect(await monthly("volumes")).toEqual([2]);
  expect(await monthly("primary_ips")).toEqual([0.6]);
  expect(await monthly("load_balancers")).toEqual([6]);
  expect(prices.currency).toBe("EUR");
  expect((await api.list("servers", "managed-by=gpuctl"))[0]).toMatchObject({ status: "off", backups: true, location: "fsn1" });
  expect((await api.list("volumes", "managed-by=gpuctl"))[0]).toMatchObject({ protected: true, sizeGb: 40 });
});

describe("what comes later is waited for", () => {
  test.each([
    [429, "rate_limit_exceeded", 1000],
    [503, "unavailable", 500],
    [502, "bad_gateway", 500],
    [423, "locked", 500],
    [409, "conflict", 500],
  ])("%i %s", async (status, code, wait) => {
    const { hcloud, clock, api } = await start();
    hcloud.inject({ status, code, times: 1 });
    expect((await api.serverTypes()).map(({ name }) => name)).toContain("cx23");
    expect(clock.slept).toEqual([wait]);
  });

  test("but not for ever: the limit is explained with the time when it is full again", async () => {
    const { hcloud, clock, api } = await start();
    hcloud.inject({ status: 429, code: "rate_limit_exceeded", times: 99 });
    const error = await failure(api.prices());
    expect(error).toBeInstanceOf(Failed);
    expect(error.message).toBe("Hetzner Cloud takes no more requests for now");
    expect(error.nextSteps[0]).toMatch(/^wait: the budget of the project is full again at \d{4}-\d\d-\d\dT/);
    expect(clock.slept).toEqual([1000, 1000, 2000, 4000]);
  });

  test("and not where waiting changes nothing", async () => {
    const { hcloud, clock, api } = await start();
    hcloud.inject({ status: 403, code: "resource_limit_exceeded", message: "no more" });
    const error = await failure(api.prices());
    expect([error.message, error.because]).toEqual(["Hetzner Cloud refuses", "no more (resource_limit_exceeded)"]);
    expect(clock.slept).toEqual([]);
  });
});

test("a wrong token is refused with what to do, and never shown", async () => {
  const { api } = await start({}, "s3cr3t");
  const error = await failure(api.prices());
  expect(error).toBeInstanceOf(PreflightRefused);
  expect(error.message).toBe("Hetzner Cloud refuses the token");
  expect(JSON.stringify([error.message, error.because, error.nextSteps, error.data])).not.toContain("s3cr3t");
});

test("a deletion waits for its action, and one that is gone is fine", async () => {
  const { hcloud, api, clock } = await start({ actionMs: 120, latencyMs: 40 });
  const server = hcloud.world.add("servers", { name: "s", private_net: [], protection: { delete: false } });
  await api.remove("servers", server.id);
  expect(hcloud.world.list("servers")).toEqual([]);
  expect(clock.slept.length).toBeGreaterThan(0);
  await api.remove("servers", server.id);
  await api.remove("networks", 1);
});

test("a deletion whose action fails says why", async () => {
  const { hcloud, api } = await start();
  const server = hcloud.world.add("servers", { name: "s", private_net: [], protection: { delete: false } });
  hcloud.world.failingActions.push({ command: "delete_server", code: "server_error", message: "host is gone" });
  expect((await failure(api.remove("servers", server.id))).because).toBe("host is gone (server_error)");
});

test("a cut connection and a closed port are the provider's silence", async () => {
  const { hcloud, api } = await start();
  hcloud.inject({ status: 0, code: "", cut: true });
  const cut = await failure(api.prices());
  expect(cut).toBeInstanceOf(TargetUnreachable);
  expect(cut.message).toBe("the API of Hetzner Cloud gives no answer");
});

test.each(["http://api.example.net/v1", "nonsense"])("the token is not sent to %s", async (endpoint) => {
  const { make } = await start();
  expect((await failure(make(endpoint).prices())).message).toBe("HCLOUD_ENDPOINT cannot be used");
});

test("an answer that is not as documented is said so", async () => {
  const { hcloud, api } = await start();
  Object.assign(hcloud.catalogue, { pricing: { currency: "EUR" } });
  expect((await failure(api.prices())).message).toBe("Hetzner Cloud answered something that gpuctl does not understand");
});
