/** The script that prepares hosts, when it is killed with its package manager, cut off, out of room, or restarted for nothing. */
import { existsSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BareHost, values } from "../support/host-bed/bare-host.js";
import { until } from "../support/until.js";

let box: BareHost;

beforeAll(async () => {
  box = await BareHost.start();
}, 900_000);

afterAll(() => box.stop());

const guarded = values({ GPUCTL_SERVICE_PORTS: "8001", GPUCTL_APP_ADDRESSES: "10.0.0.0/8" });

test("killed in the middle of installing packages, with apt and dpkg, the next run mends it", async () => {
  await box.fresh();
  const session = box.prepare(guarded);
  await until(
    async () => (await box.host.exec(["pgrep", "-f", "dpkg .*(docker-ce|--configure|--unpack)"])).code === 0,
    "dpkg runs",
    30_000,
  );
  await box.host.exec(["pkill", "-9", "-f", "prepare-host|apt-get|dpkg"]);
  expect((await session).code).not.toBe(0);
  const again = await box.prepare(guarded);
  expect(again.code, again.stdout).toBe(0);
  expect(await box.prepare(guarded)).toMatchObject({ code: 0, changed: [] });
});

test("a repository that cannot be reached is said with its address, and the next run goes on", async () => {
  await box.fresh();
  await box.ssh("mv /srv/mirror/toolkit /srv/mirror/away");
  expect((await box.prepare()).code).toBe(1);
  expect(box.result()).toMatchObject({ state: "failed", step: "toolkit-repository" });
  expect(box.result().reason).toContain("file:///srv/mirror/toolkit/gpgkey cannot be fetched");
  await box.ssh("mv /srv/mirror/away /srv/mirror/toolkit; rm -rf /srv/mirror/toolkit/stable");
  expect((await box.prepare()).code).toBe(1);
  expect(box.result().reason).toMatch(/nvidia-container-toolkit.*file:\/srv\/mirror\/toolkit\/stable/);
});

test("a repository that refuses connections, or takes them and says nothing, is said so, and the next run goes on", async () => {
  await box.fresh();
  const toolkit = async (base: string): Promise<string> => {
    expect((await box.prepare(values({ GPUCTL_TOOLKIT_REPOSITORY: base }))).code).toBe(1);
    expect(box.result()).toMatchObject({ state: "failed", step: "toolkit-repository" });
    return box.result().reason ?? "";
  };
  const refused = "https://127.0.0.1:9";
  expect(await toolkit(refused)).toMatch(/^https:\/\/127\.0\.0\.1:9\/gpgkey cannot be fetched: curl: \(7\) /);
  const silent = createServer();
  const address = new URL(box.bed.proxy.url).hostname;
  await new Promise<void>((resolve) => silent.listen(0, address, resolve));
  try {
    const stalling = `https://${address}:${String((silent.address() as AddressInfo).port)}`;
    expect(await toolkit(stalling)).toContain(`${stalling}/gpgkey cannot be fetched: curl: (28) `);
  } finally {
    silent.close();
  }
  expect((await box.prepare()).code).toBe(0);
});

test("a full disk in the middle of it leaves files whole, and room lets the next run end well", async () => {
  await box.fresh();
  // What the script keeps and what apt brings are on one small disk; the check before sees another.
  await box.ssh(
    "mkdir -p /var/lib/gpuctl /etc/docker; mount -t tmpfs -o size=128k tmpfs /var/lib/gpuctl; mount -t tmpfs -o size=4k tmpfs /etc/docker",
  );
  await box.ssh('head -c 124000 /dev/zero >/var/lib/gpuctl/filler; printf \'{"labels":["a"]}\' >/etc/docker/daemon.json');
  const full = await box.prepare();
  expect(full.code).toBe(1);
  expect(full.stdout).toMatch(/cannot be written/);
  await box.ssh("rm /var/lib/gpuctl/filler; head -c 4096 /dev/zero >/etc/docker/filler");
  const other = await box.prepare();
  expect(other.code, other.stdout).toBe(1);
  expect(other.stdout).toMatch(/daemon\.json cannot be written/);
  expect(JSON.parse(box.read("etc/docker/daemon.json"))).toEqual({ labels: ["a"] });
  await box.ssh("umount /etc/docker");
  expect((await box.prepare()).code).toBe(0);
});

test("a restart that did not help is not tried for ever", async () => {
  await box.fresh({ kernel: "6.8.0-88-generic" });
  expect((await box.prepare(values({ GPUCTL_REBOOT: "yes" }))).code).toBe(4);
  await box.restartAsAsked();
  await until(() => box.result().state === "failed", "it says so", 30_000);
  expect(box.result().reason).toMatch(/was restarted, and still/);
  expect(existsSync(join(box.host.root, "var/reboot-asked"))).toBe(false);
});
