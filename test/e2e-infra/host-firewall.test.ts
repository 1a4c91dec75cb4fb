/** Who reaches a prepared host: nobody is locked out by a later run or by the removal, and nobody is let in by what was not said. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { BareHost, values } from "../support/host-bed/bare-host.js";

let box: BareHost;

beforeAll(async () => {
  box = await BareHost.start();
}, 900_000);

afterAll(() => box.stop());

beforeEach(() => box.fresh({ gpus: 0 }));

const guarded = values({
  GPUCTL_SERVICE_PORTS: "8001",
  GPUCTL_APP_ADDRESSES: "10.0.0.0/8",
  GPUCTL_SSH_ADDRESSES: "198.18.0.0/15,::/0",
});

const ufw = async (): Promise<string> => (await box.ssh("ufw status verbose; ufw show added")).stdout;

test("a removal leaves the firewall of somebody who has rules in it as it is, and SSH open", async () => {
  expect((await box.prepare(guarded)).code).toBe(0);
  await box.ssh("ufw allow 443/tcp");
  expect((await box.prepare("", ["--remove"])).code).toBe(0);
  const left = await ufw();
  expect(left).toContain("Status: active");
  expect(left).toContain("Default: allow (incoming)");
  expect(left).toContain("ufw allow 443/tcp");
  expect(left).not.toContain("gpuctl");
});

test("a rule of somebody that says the same as one of ours stays his, and lets him in after a removal", async () => {
  const his = "allow from 198.18.0.0/15 to any port 22 proto tcp";
  await box.host.must(["bash", "-c", `apt-get update -qq; apt-get install -qq ufw; ufw ${his}; ufw --force enable`]);
  const same = values({ GPUCTL_SSH_ADDRESSES: "198.18.0.0/15" });
  expect((await box.prepare(same)).code).toBe(0);
  expect(await box.prepare(same)).toMatchObject({ code: 0, changed: [] });
  expect((await box.prepare("", ["--remove"])).code).toBe(0);
  const left = await ufw();
  expect(left).toContain("Default: deny (incoming)");
  expect(left).toContain(`ufw ${his}\n`);
  expect(left).not.toContain("gpuctl");
});

test("what a run does not name stays as it was told before, and is taken back by its name alone", async () => {
  expect((await box.prepare(guarded)).code).toBe(0);
  const [rules, told] = [await ufw(), box.read("var/lib/gpuctl/host/values")];
  expect(await box.prepare("GPUCTL_REVISION=1\n")).toMatchObject({ code: 0, changed: [] });
  expect(await ufw()).toBe(rules);
  expect(box.read("var/lib/gpuctl/host/values")).toBe(told);
  expect((await box.prepare("GPUCTL_SSH_ADDRESSES=\n")).code).toBe(0);
  expect(await ufw()).not.toMatch(/ 22/);
  expect(await ufw()).toContain("deny 8001/tcp");
  const toolkit = /^GPUCTL_TOOLKIT_REPOSITORY=(.*)$/m;
  expect(toolkit.exec(told)?.[1]).toBe("file:///srv/mirror/toolkit");
  expect((await box.prepare("GPUCTL_TOOLKIT_REPOSITORY=\n")).code).toBe(0);
  expect(toolkit.exec(box.read("var/lib/gpuctl/host/values"))?.[1]).toMatch(/^https:\/\//);
  await box.ssh("ufw --force disable");
  expect((await box.prepare("GPUCTL_APP_ADDRESSES=\n")).code).toBe(0);
  expect(await ufw()).toContain("Status: inactive");
});

test("nobody is a list of its own: the ports are closed to all, and stay so", async () => {
  const closed = values({ GPUCTL_SERVICE_PORTS: "8001", GPUCTL_APP_ADDRESSES: "nobody" });
  expect((await box.prepare(closed)).code).toBe(0);
  expect(await box.prepare(closed)).toMatchObject({ code: 0, changed: [] });
  expect(await ufw()).toMatch(/8001\/tcp +DENY IN +Anywhere/);
  expect(await ufw()).not.toContain("ALLOW");
  for (const program of ["iptables", "ip6tables"]) {
    const rules = (await box.ssh(`${program} -S DOCKER-USER`)).stdout.trim().split("\n");
    expect(rules.slice(1).map((rule) => /(?: -i \S+)? -p .*(?<= -j )(\w+)/.exec(rule)?.[1])).toEqual([
      "RETURN",
      "RETURN",
      "DROP",
    ]);
  }
  expect((await box.prepare("", ["--check"])).code).toBe(0);
});

test("everybody of one family is nobody of the other, and a bridge of the host is none of Docker's", async () => {
  await box.ssh("ip link add br-lan type bridge; ip link add br-0123456789ab type bridge");
  const mixed = values({ GPUCTL_SERVICE_PORTS: "8001", GPUCTL_APP_ADDRESSES: "10.0.0.0/8,::/0" });
  expect((await box.prepare(mixed)).code).toBe(0);
  expect(await box.prepare(mixed)).toMatchObject({ code: 0, changed: [] });
  const rules = await ufw();
  expect(rules).not.toMatch(/8001\/tcp +ALLOW IN +Anywhere/);
  expect(rules).toMatch(/8001\/tcp +ALLOW IN +10\.0\.0\.0\/8/);
  expect(rules).toMatch(/8001\/tcp +ALLOW IN +8000::\/1/);
  const published = (await box.ssh("iptables -S DOCKER-USER")).stdout;
  expect(published).toMatch(
    /-s 10\.0\.0\.0\/8 -i br-lan .*-j RETURN\n-A DOCKER-USER -i br-lan .*-j DROP\n.*-i docker0 .*-j RETURN/,
  );
  expect(published).not.toContain("br-0123456789ab");
});
