/** The script that prepares hosts: killed after the work of every single step, on every system, and what takes longer than a run of CI may. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BareHost, values } from "../support/host-bed/bare-host.js";
import { until } from "../support/until.js";

let box: BareHost;

beforeAll(async () => {
  box = await BareHost.start();
}, 900_000);

afterAll(() => box.stop());

/** Steps that change something on a bare host, in the order in which they run. */
const changing = [
  "files",
  "tools",
  "user",
  "docker-repository",
  "docker-settings",
  "docker",
  "driver",
  "toolkit-repository",
  "toolkit",
  "hold",
  "persistence",
  "ufw",
  "published",
  "units",
  "module",
  "devices",
];

test("each run goes on where the one before was killed, and the last has nothing left to do", async () => {
  const guarded = values({ GPUCTL_SERVICE_PORTS: "8001", GPUCTL_APP_ADDRESSES: "10.0.0.0/8" });
  await box.fresh();
  for (const step of changing) {
    box.killWhen(`\${step:-} == ${step} && $BASH_COMMAND == "log end \\"\\$outcome\\""*`);
    const { code, changed, lines } = await box.prepare(guarded, ["-"], BareHost.killing);
    expect({ step, ended: code !== 0 && code !== 1, last: lines.at(-1)?.step }).toEqual({ step, ended: true, last: step });
    expect(changed, step).toEqual([]);
  }
  expect(await box.prepare(guarded)).toMatchObject({ code: 0, changed: [] });
  expect(box.result().state).toBe("prepared");
});

test.each(["ubuntu-26.04", "debian-12", "debian-13"] as const)("%s without a GPU gets Docker only", async (system) => {
  await box.fresh({ system, gpus: 0 });
  const { code, stdout } = await box.prepare();
  expect(code, stdout).toBe(0);
  expect(box.result()).toMatchObject({ state: "prepared", gpus: [], driver: null, toolkit: null });
  expect(await box.prepare()).toMatchObject({ code: 0, changed: [] });
});

test.each([
  ["ubuntu-22.04", "linux-modules-nvidia-580-server-open-6.8.0-90-generic"],
  ["ubuntu-26.04", "linux-modules-nvidia-580-server-open-6.8.0-90-generic"],
  ["debian-12", "nvidia-kernel-open-dkms"],
] as const)("%s gets driver, modules and toolkit for its card, and holds them", async (system, held) => {
  await box.fresh({ system });
  const { code, stdout } = await box.prepare();
  expect(code, stdout).toBe(0);
  expect(box.result()).toMatchObject({ state: "prepared", driver: "580.95.05", toolkit: "1.20.0-1" });
  expect((await box.ssh("apt-mark showhold")).stdout.split("\n")).toContain(held);
  expect(await box.prepare()).toMatchObject({ code: 0, changed: [] });
});

test("a kernel without ready modules gets them built", async () => {
  await box.fresh({ kernel: "6.5.0-1-custom" });
  expect((await box.prepare()).code).toBe(0);
  expect((await box.ssh("dpkg -l nvidia-dkms-580-server-open | grep ^hi")).code).toBe(0);
});

test("a restart is asked for when nouveau has the GPU, and what is left is done and verified after it", async () => {
  await box.fresh();
  await box.ssh("mkdir /sys/module/nouveau");
  const { code } = await box.prepare(values({ GPUCTL_REBOOT: "yes" }));
  expect(code).toBe(4);
  expect(box.result()).toMatchObject({ state: "rebooting", reason: "the kernel uses nouveau for the GPU" });
  await box.restartAsAsked();
  await until(() => box.result().state === "prepared", "it is verified", 30_000);
  expect(box.result().gpus).toHaveLength(1);
});

/** Milliseconds after dpkg took up the driver's first or last package. */
const moments = [0, 40, 80, 120, 160, 200, 240, 280, 320, 360, 400, 450, 500, 600];

test.each(["linux-modules-nvidia", "nvidia-utils"])(
  "killed while apt installs %s, with apt and dpkg, the next run mends it",
  async (name) => {
    for (const moment of moments) {
      await box.fresh();
      const session = box.prepare();
      await until(async () => (await box.host.exec(["pgrep", "-f", `dpkg .*${name}`])).code === 0, "dpkg runs", 60_000);
      await sleep(moment);
      await box.host.exec(["pkill", "-9", "-f", "prepare-host|apt-get|dpkg"]);
      expect((await session).code).not.toBe(0);
      const left = (await box.ssh("dpkg --audit; ls /var/lib/dpkg/updates")).stdout;
      const again = await box.prepare();
      expect(again.code, `${moment} ms\n${left}\n${again.stdout}`).toBe(0);
      expect(await box.prepare()).toMatchObject({ code: 0, changed: [] });
    }
  },
  900_000,
);

test("--upgrade moves driver, modules and kernel as one set, through a restart, and holds them again", async () => {
  await box.fresh();
  await box.ssh("apt-get update -qq; apt-get install -qq linux-image-generic");
  expect((await box.prepare()).code).toBe(0);
  await box.newerArchive();
  expect(await box.prepare()).toMatchObject({ code: 0, changed: [] });
  const upgraded = await box.prepare(values({ GPUCTL_REBOOT: "yes" }), ["--upgrade", "-"]);
  expect(upgraded.code, upgraded.stdout).toBe(4);
  await box.host.powerOff();
  box.write("etc/stand-in/kernel", "6.8.0-95-generic\n");
  await box.powerOn();
  await until(() => box.result().state === "prepared", "it is verified", 30_000);
  expect(box.result()).toMatchObject({ driver: "580.105.08", kernel: "6.8.0-95-generic" });
  const held = (await box.ssh("apt-mark showhold")).stdout;
  expect(held).toContain("linux-image-generic");
  expect(held).toContain("linux-modules-nvidia-580-server-open-6.8.0-95-generic");
});

test("an upgrade of a driver that no package brought is refused, for a newer kernel would have no module", async () => {
  await box.fresh();
  await box.ssh("mkdir -p /sys/module/nvidia; echo 580.95.05 >/sys/module/nvidia/version");
  const refused = await box.prepare(values(), ["--upgrade", "-"]);
  expect(refused.code, refused.stdout).toBe(3);
  expect(box.result()).toMatchObject({ state: "refused", step: "driver-plan" });
  expect(box.result().reason).toMatch(/came from no package/);
});

test("a driver of somebody that is new enough is kept as it is, with its modules and without a repository of ours", async () => {
  await box.fresh();
  const smi = readFileSync(join(import.meta.dirname, "../support/host-bed/contents/nvidia-smi"), "utf8");
  box.write("usr/local/bin/nvidia-smi", smi);
  box.write("usr/lib/stand-in/library", "590.44.01\n");
  box.write("usr/lib/stand-in/modules/6.8.0-90-generic", "590.44.01\n");
  await box.ssh("chmod 755 /usr/local/bin/nvidia-smi; modprobe nvidia; nvidia-smi -pm 1");
  const { code, lines, stdout } = await box.prepare();
  expect(code, stdout).toBe(0);
  expect(lines.find(({ step, event }) => step === "driver-plan" && event === "end")?.detail).toBe(
    "driver 590.44.01 is kept as it is",
  );
  expect(box.result()).toMatchObject({ state: "prepared", driver: "590.44.01", toolkit: "1.20.0-1" });
  expect(
    (await box.ssh("dpkg-query -W -f '${Package}\n' | grep -E 'nvidia-(utils|headless|kernel)|linux-modules-nvidia'")).stdout,
  ).toBe("");
  expect(await box.prepare()).toMatchObject({ code: 0, changed: [] });
});

test("a virtual machine's kernel for newer hardware has its modules' meta-package too", async () => {
  await box.fresh({ system: "ubuntu-22.04", kernel: "6.14.0-37-generic" });
  await box.host.must(["bash", "-c", "apt-get update -qq; apt-get install -qq linux-image-virtual-hwe-22.04"]);
  const { code, stdout } = await box.prepare();
  expect(code, stdout).toBe(0);
  expect((await box.ssh("apt-mark showhold")).stdout).toContain("linux-modules-nvidia-580-server-open-generic-hwe-22.04\n");
});

test("--upgrade on Debian builds the newer driver's modules, asks for a restart, and holds the set again", async () => {
  await box.fresh({ system: "debian-13" });
  expect((await box.prepare()).code).toBe(0);
  await box.newerArchive();
  expect(await box.prepare()).toMatchObject({ code: 0, changed: [] });
  const upgraded = await box.prepare(values({ GPUCTL_REBOOT: "yes" }), ["--upgrade", "-"]);
  expect(upgraded.code, upgraded.stdout).toBe(4);
  expect(box.result()).toMatchObject({ state: "rebooting", reason: "driver, modules and kernel were upgraded" });
  await box.restartAsAsked();
  await until(() => box.result().state === "prepared", "it is verified", 30_000);
  expect(box.result()).toMatchObject({ driver: "580.105.08", toolkit: "1.20.0-1" });
  const held = (await box.ssh("apt-mark showhold")).stdout.split("\n");
  expect(held).toEqual(expect.arrayContaining(["nvidia-driver-cuda", "nvidia-kernel-open-dkms"]));
});

test("a repository that is switched off, or named where apt does not look, is none that the host has already", async () => {
  await box.fresh({ gpus: 0 });
  const line = "deb [trusted=yes] file:///srv/mirror/docker/ubuntu noble stable";
  box.write("etc/apt/sources.list.d/docker.list", `# ${line}\n`);
  box.write("etc/apt/sources.list.d/docker.list.save", `${line}\n`);
  box.write("etc/apt/sources.list.d/docker.list.distUpgrade", `${line}\n`);
  const off = "Enabled: no\nTypes: deb\nURIs: file:///srv/mirror/docker/ubuntu\nSuites: noble\nComponents: stable\n";
  box.write("etc/apt/sources.list.d/docker.sources", off);
  const { code, stdout } = await box.prepare();
  expect(code, stdout).toBe(0);
  expect(box.read("etc/apt/sources.list.d/gpuctl-docker.sources")).toContain("URIs: file:///srv/mirror/docker/ubuntu");
});

test("a kernel that somebody else brought gets its modules, without a restart", async () => {
  await box.fresh();
  expect((await box.prepare()).code).toBe(0);
  await box.host.powerOff();
  box.write("etc/stand-in/kernel", "6.5.0-1-custom\n");
  await box.powerOn();
  const { code, changed, stdout } = await box.prepare();
  expect(code, stdout).toBe(0);
  expect(changed).toContain("driver");
  expect(box.result()).toMatchObject({ state: "prepared", kernel: "6.5.0-1-custom" });
});

test("a removal puts back what the firewall did with everything else, and switches it off again", async () => {
  await box.fresh({ gpus: 0 });
  const guarded = values({ GPUCTL_SSH_ADDRESSES: "198.18.0.0/15" });
  const ufw = async (): Promise<string> => (await box.ssh("ufw status verbose")).stdout;
  await box.host.must(["bash", "-c", "apt-get update -qq; apt-get install -qq ufw; ufw default reject incoming"]);
  expect((await box.prepare(guarded)).code).toBe(0);
  expect(await ufw()).toContain("Default: allow (incoming)");
  expect((await box.prepare("", ["--remove"])).code).toBe(0);
  expect(await ufw()).toContain("Status: inactive");
  expect(box.read("etc/default/ufw")).toContain('DEFAULT_INPUT_POLICY="REJECT"');
});
