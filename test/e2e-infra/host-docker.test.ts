/** The script with Debian's real Docker Engine, packaged as Docker packages it: configured, running, guarded by the rules in DOCKER-USER. */
import { connect } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BareHost, values } from "../support/host-bed/bare-host.js";
import { until } from "../support/until.js";

let box: BareHost;

beforeAll(async () => {
  box = await BareHost.start();
  await box.fresh({ system: "debian-13", engine: true });
}, 900_000);

afterAll(() => box.stop());

const guarded = (addresses: string): string => values({ GPUCTL_SERVICE_PORTS: "8001", GPUCTL_APP_ADDRESSES: addresses });

/** Whether a connection from this machine, by the network, gets an answer there. */
const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect({ host: box.host.address, port, timeout: 1500 });
    const settle = (answer: boolean) => (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.write("GET / HTTP/1.0\r\n\r\n");
    socket.once("data", settle(true)).once("error", settle(false)).once("timeout", settle(false)).once("close", settle(false));
  });

test("the engine is installed from its repository and gives out GPUs by CDI", async () => {
  const { code, stdout } = await box.prepare(guarded("198.18.0.0/15"));
  expect(code, stdout).toBe(0);
  expect(box.result()).toMatchObject({ state: "prepared", docker: "28.5.2+dfsg4" });
  expect((await box.ssh("docker info --format '{{json .CDISpecDirs}}'")).stdout).toContain("/etc/cdi");
  expect((await box.ssh("sudo -u ops docker version --format '{{.Client.Version}}'")).stdout).toMatch(/^28/);
  expect(await box.prepare(guarded("198.18.0.0/15"))).toMatchObject({ code: 0, changed: [] });
});

test("a published port answers the app's networks and nobody else, while other ports are left alone", async () => {
  const image =
    "tar -C / -c usr/bin/python3 usr/bin/python3.13 usr/lib/python3.13 usr/lib/x86_64-linux-gnu usr/lib64 lib64 lib 2>/dev/null | docker import - served:1";
  expect((await box.ssh(image)).code).toBe(0);
  for (const port of [8001, 9001]) {
    const ran = await box.ssh(`docker run -d -p ${port}:80 served:1 /usr/bin/python3 -m http.server 80`);
    expect(ran.code, ran.stderr).toBe(0);
  }
  await until(() => answers(9001), "the container serves", 10_000);
  expect(await answers(8001)).toBe(true);
  expect((await box.prepare(guarded("10.9.0.0/16"))).code).toBe(0);
  expect([await answers(8001), await answers(9001)]).toEqual([false, true]);
  expect((await box.prepare(guarded("198.18.0.0/15"))).code).toBe(0);
  expect(await answers(8001)).toBe(true);
  expect((await box.prepare(guarded("nobody"))).code).toBe(0);
  expect([await answers(8001), await answers(9001)]).toEqual([false, true]);
  await box.host.powerOff();
  await box.powerOn();
  await box.host.dockerAnswers();
  expect((await box.ssh("iptables -S DOCKER-USER")).stdout).toMatch(/--ctorigdstport 8001.*-j DROP/);
});
