import { afterEach, expect, test } from "vitest";
import { startFakeHcloud, type FakeHcloud, type FakeHcloudOptions } from "../support/fake-hcloud/index.js";

interface Named {
  id: number;
  name: string;
}

/** The parts of answers that are looked into; each answer has some of them. */
interface Body {
  error: { code: string; message: string };
  meta: { pagination: { per_page: number; next_page: number | null } };
  server: Named;
  action: { id: number; command: string };
  actions: unknown[];
  network: Named;
  networks: Named[];
  placement_groups: Named[];
  primary_ip: Named;
  volume: Named & { linux_device: string };
}

interface Answer {
  status: number;
  headers: Headers;
  body: Body;
}

const open: FakeHcloud[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((hcloud) => hcloud.close()));
});

async function start(options: FakeHcloudOptions = {}) {
  const hcloud = await startFakeHcloud(options);
  open.push(hcloud);
  const call = async (method: string, path: string, body?: unknown, token = hcloud.token): Promise<Answer> => {
    const response = await fetch(`${hcloud.endpoint}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: (text === "" ? null : JSON.parse(text)) as Body };
  };
  return { hcloud, call };
}

const server = { name: "web-1", server_type: "cx23", image: "debian-12", location: "fsn1", labels: { "managed-by": "gpuctl" } };

test("a list comes in pages that name the next one, until it is null", async () => {
  const { call } = await start();
  for (let n = 0; n < 7; n++) await call("POST", "/placement_groups", { name: `g${n}`, type: "spread" });
  const first = await call("GET", "/placement_groups?per_page=5");
  expect(first.body.meta.pagination).toEqual({
    page: 1,
    per_page: 5,
    previous_page: null,
    next_page: 2,
    last_page: 2,
    total_entries: 7,
  });
  const second = await call("GET", "/placement_groups?per_page=5&page=2");
  expect(second.body.placement_groups).toHaveLength(2);
  expect(second.body.meta.pagination.next_page).toBeNull();
  expect((await call("GET", "/placement_groups?per_page=500")).body.meta.pagination.per_page).toBe(50);
});

test("labels select: equal, unequal, there, not there, one of", async () => {
  const { call } = await start();
  await call("POST", "/networks", { name: "a", ip_range: "10.0.0.0/16", labels: { env: "prod", team: "x" } });
  await call("POST", "/networks", { name: "b", ip_range: "10.1.0.0/16", labels: { env: "dev" } });
  const names = async (selector: string): Promise<string[]> =>
    (await call("GET", `/networks?label_selector=${encodeURIComponent(selector)}`)).body.networks.map(
      (one: { name: string }) => one.name,
    );
  expect(await names("env=prod")).toEqual(["a"]);
  expect(await names("env!=prod")).toEqual(["b"]);
  expect(await names("team")).toEqual(["a"]);
  expect(await names("!team")).toEqual(["b"]);
  expect(await names("env in (prod, dev),!team")).toEqual(["b"]);
  expect(await names("env notin (prod)")).toEqual(["b"]);
});

test("errors have a code, a message and details; a wrong token is 401", async () => {
  const { call } = await start({ limits: { servers: 1 } });
  expect(await call("GET", "/servers", undefined, "other")).toMatchObject({
    status: 401,
    body: { error: { code: "unauthorized" } },
  });
  expect(await call("GET", "/servers/1")).toMatchObject({ status: 404, body: { error: { code: "not_found" } } });
  expect(await call("POST", "/servers", { ...server, name: "" })).toMatchObject({
    status: 422,
    body: { error: { code: "invalid_input", details: { fields: [{ name: "name" }] } } },
  });
  expect((await call("POST", "/servers", { ...server, user_data: "x".repeat(32_769) })).body.error.code).toBe("invalid_input");
  expect((await call("POST", "/servers", server)).status).toBe(201);
  expect(await call("POST", "/servers", server)).toMatchObject({ status: 409, body: { error: { code: "uniqueness_error" } } });
  expect(await call("POST", "/servers", { ...server, name: "web-2" })).toMatchObject({
    status: 403,
    body: { error: { code: "resource_limit_exceeded", details: { limits: [{ name: "server_limit" }] } } },
  });
  expect(await call("GET", "/datacenters")).toMatchObject({ status: 410, body: { error: { code: "deprecated_api_endpoint" } } });
});

test("a type that is not to be had in a location is resource_unavailable", async () => {
  const { hcloud, call } = await start();
  hcloud.catalogue.serverTypes[0]!.locations[0]!.available = false;
  expect((await call("POST", "/servers", server)).body.error.code).toBe("resource_unavailable");
  expect((await call("POST", "/servers", { ...server, location: "hel1" })).status).toBe(201);
});

test("an action takes its time, tells its progress, and locks the server meanwhile", async () => {
  const { call } = await start({ actionMs: 150 });
  const made = await call("POST", "/servers", server);
  const { id } = made.body.server;
  expect(made.body.action).toMatchObject({ status: "running", command: "create_server", finished: null });
  expect((await call("POST", `/servers/${id}/actions/poweroff`)).status).toBe(423);
  await expect
    .poll(async () => (await call("GET", `/actions?id=${made.body.action.id}&page=1&sort=status&sort=id`)).body.actions[0])
    .toMatchObject({ status: "success", progress: 100 });
  expect((await call("POST", `/servers/${id}/actions/poweroff`)).status).toBe(201);
  expect((await call("GET", "/actions")).status).toBe(410);
});

test("a failing action ends with its error", async () => {
  const { hcloud, call } = await start();
  hcloud.world.failingActions.push({ command: "create_server", code: "server_error", message: "host is gone" });
  const made = await call("POST", "/servers", server);
  expect(made.body.action).toMatchObject({ status: "error", error: { code: "server_error", message: "host is gone" } });
});

test("a subnet with servers cannot be removed; a server takes its own address along, not a primary one", async () => {
  const { hcloud, call } = await start();
  const { network } = (await call("POST", "/networks", { name: "n", ip_range: "10.0.0.0/16" })).body;
  await call("POST", `/networks/${network.id}/actions/add_subnet`, {
    type: "cloud",
    ip_range: "10.0.1.0/24",
    network_zone: "eu-central",
  });
  const { primary_ip: address } = (
    await call("POST", "/primary_ips", { name: "p", type: "ipv4", location: "fsn1", assignee_type: "server" })
  ).body;
  const made = await call("POST", "/servers", { ...server, public_net: { enable_ipv6: false, ipv4: address.id } });
  const { id } = made.body.server;
  expect((await call("POST", `/servers/${id}/actions/attach_to_network`, { network: network.id })).status).toBe(201);
  const removal = await call("POST", `/networks/${network.id}/actions/delete_subnet`, { ip_range: "10.0.1.0/24" });
  expect(removal.body.error).toMatchObject({
    code: "service_error",
    message: "cannot remove subnet because servers are attached to it",
  });
  expect((await call("DELETE", `/primary_ips/${address.id}`)).body.error.code).toBe("primary_ip_assigned");
  expect((await call("DELETE", `/servers/${id}`)).body.action.command).toBe("delete_server");
  expect(hcloud.world.list("primary_ips")).toMatchObject([{ name: "p", assignee_id: null }]);
  expect((await call("POST", `/networks/${network.id}/actions/delete_subnet`, { ip_range: "10.0.1.0/24" })).status).toBe(201);
});

test("what a test injects happens as often as asked, and the rate limit is in the headers", async () => {
  const { hcloud, call } = await start({ rateLimit: 4 });
  hcloud.inject({ method: "GET", path: /^\/volumes/, status: 503, code: "unavailable", times: 1 });
  expect((await call("GET", "/volumes")).status).toBe(503);
  const fine = await call("GET", "/volumes");
  expect(fine.headers.get("ratelimit-limit")).toBe("4");
  expect(fine.headers.get("ratelimit-remaining")).toBe("2");
  await call("GET", "/volumes");
  await call("GET", "/volumes");
  expect(await call("GET", "/volumes")).toMatchObject({ status: 429, body: { error: { code: "rate_limit_exceeded" } } });
});

test("a protected volume stays, an attached one too", async () => {
  const { call } = await start();
  const { volume } = (await call("POST", "/volumes", { name: "models", size: 20, location: "fsn1" })).body;
  expect(volume.linux_device).toBe(`/dev/disk/by-id/scsi-0HC_Volume_${volume.id}`);
  await call("POST", `/volumes/${volume.id}/actions/change_protection`, { delete: true });
  expect((await call("DELETE", `/volumes/${volume.id}`)).body.error.code).toBe("protected");
  await call("POST", `/volumes/${volume.id}/actions/change_protection`, { delete: false });
  expect((await call("DELETE", `/volumes/${volume.id}`)).status).toBe(204);
});
