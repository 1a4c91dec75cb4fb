/** The script that prepares hosts, when it is killed, held up, cut off or restarted: the next run goes on where it was. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { BareHost, values } from "../support/host-bed/bare-host.js";
import { until } from "../support/until.js";

let box: BareHost;

beforeAll(async () => {
  box = await BareHost.start();
}, 900_000);

afterAll(() => box.stop());

const guarded = values({ GPUCTL_SERVICE_PORTS: "8001", GPUCTL_APP_ADDRESSES: "10.0.0.0/8" });

/** Steps that make something that the next run has to recognise; all others are killed in the long tests. */
const changing = ["docker", "hold", "units"];

describe("killed with SIGKILL", () => {
  test("after the work of a step, again and again, each run goes on and the last has nothing left to do", async () => {
    await box.fresh();
    const made = new Set<string>();
    for (const step of changing) {
      box.killWhen(`\${step:-} == ${step} && $BASH_COMMAND == "log end \\"\\$outcome\\""*`);
      const { code, changed, lines } = await box.prepare(guarded, ["-"], BareHost.killing);
      expect({ step, ended: code !== 0 && code !== 1, last: lines.at(-1)?.step }).toEqual({ step, ended: true, last: step });
      expect(
        changed.filter((each) => made.has(each)),
        step,
      ).toEqual([]);
      for (const each of [...changed, step]) made.add(each);
    }
    const last = await box.prepare(guarded);
    expect(last).toMatchObject({ code: 0, changed: ["module", "devices"] });
    expect(await box.prepare(guarded)).toMatchObject({ code: 0, changed: [] });
  });
});

describe("a driver whose installation was killed", () => {
  const modules = "linux-modules-nvidia-580-server-open-";
  /** As dpkg leaves what it was unpacking; the status it writes at every step lies in `updates` until it ends. */
  const half = (name: string): string =>
    `sed -i '/^Package: ${name}$/,/^$/s/^Status: .*/Status: install reinstreq half-installed/' /var/lib/dpkg/status; rm -f /var/lib/dpkg/info/${name}.list`;
  const journal = "sed -n '/^Package: docker-ce$/,/^$/p' /var/lib/dpkg/status >/var/lib/dpkg/updates/0000";

  test("while its first packages were unpacked is none that somebody brought, and is installed whole", async () => {
    await box.fresh();
    await box.ssh("cd /root && apt-get update -qq && apt-get download -qq " + `${modules}generic ${modules}6.8.0-90-generic`);
    await box.host.must(["bash", "-c", "dpkg --unpack /root/linux-modules-*.deb"]);
    await box.host.must(["bash", "-c", half(`${modules}generic`)]);
    const { code, stdout } = await box.prepare();
    expect(code, stdout).toBe(0);
    expect((await box.ssh("dpkg --audit")).stdout).toBe("");
    expect(await box.prepare()).toMatchObject({ code: 0, changed: [] });
  });

  test("in the middle, and then mended by a run that was killed too, has all its packages in the end", async () => {
    await box.fresh();
    expect((await box.prepare()).code).toBe(0);
    const lost = `dpkg --purge --force-all nvidia-compute-utils-580-server; sed -i '/^hold /d' /var/lib/gpuctl/host/made; apt-mark unhold '?installed'`;
    await box.host.must(["bash", "-c", `${lost}; ${half("nvidia-utils-580-server")}; ${journal}`]);
    const { code, changed, stdout } = await box.prepare();
    expect(code, stdout).toBe(0);
    expect(changed).toContain("driver");
    expect((await box.ssh("dpkg --audit; ls /var/lib/dpkg/updates; command -v nvidia-smi nvidia-persistenced")).stdout).toBe(
      "/usr/bin/nvidia-smi\n/usr/bin/nvidia-persistenced\n",
    );
    expect(await box.prepare()).toMatchObject({ code: 0, changed: [] });
  });
});

test("apt's lock in other hands is waited for with its holder's name, and not for ever", async () => {
  await box.fresh({ gpus: 0 });
  const release = await holdLocks("/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock");
  const given = await box.prepare(values({ GPUCTL_LOCK_SECONDS: "1" }));
  expect(given).toMatchObject({ code: 1 });
  expect(box.result().reason).toMatch(/held by process \d+ \(python3\)/);
  // The run that gave up may have said it too: that depends on when its second began.
  const waits = (): number => box.read("var/log/gpuctl/prepare.jsonl").split("waiting for apt's lock").length;
  const before = waits();
  const patient = box.prepare();
  await until(() => waits() > before, "it waits", 20_000);
  await release();
  expect((await patient).code).toBe(0);
});

test("dpkg's lock in other hands stops neither holding packages nor releasing them for ever, and nothing is forgotten", async () => {
  await box.fresh();
  expect((await box.prepare()).code).toBe(0);
  const held = async (): Promise<string[]> => (await box.ssh("apt-mark showhold")).stdout.trim().split("\n");
  const before = await held();
  await box.ssh("apt-mark unhold nvidia-utils-580-server");
  const hasty = values({ GPUCTL_LOCK_SECONDS: "1" });
  const release = await holdLocks("/var/lib/dpkg/lock-frontend");

  expect(await box.prepare(hasty)).toMatchObject({ code: 1 });
  expect(box.result()).toMatchObject({
    step: "hold",
    reason: expect.stringMatching(/lock is held by process \d+ \(python3\) for more than 1 s/) as string,
  });
  expect(await box.prepare(hasty, ["--upgrade", "-"])).toMatchObject({ code: 1 });
  expect(box.result().step).toBe("upgrade");
  expect(box.read("var/log/gpuctl/apt.log").split(" apt-").at(-1)).toMatch(/^mark unhold linux-modules-nvidia-580/);

  expect((await box.prepare("", ["--remove"])).stdout).toMatch(
    /"step":"remove","event":"end","result":"failed".*lock is held by/,
  );
  expect(box.read("var/lib/gpuctl/host/made")).toContain("hold nvidia-utils-580-server");
  expect((await box.ssh("id ops")).code).toBe(0);

  const patient = box.prepare();
  await until(
    () => box.read("var/log/gpuctl/prepare.jsonl").trimEnd().split("\n").at(-1)?.includes("waiting for apt's lock") === true,
    "it waits",
    20_000,
  );
  await release();
  expect(await patient).toMatchObject({ code: 0, changed: expect.arrayContaining(["hold"]) as string[] });
  expect(await held()).toEqual(before);
  expect((await box.prepare("", ["--remove"])).code).toBe(0);
  expect(await held()).toEqual([""]);
});

/** Takes locks as apt and dpkg do, in the host. @returns what gives them back */
async function holdLocks(...files: readonly string[]): Promise<() => Promise<void>> {
  const code = `import fcntl, sys, time; held = [open(each, 'w') for each in sys.argv[1:]]; [fcntl.lockf(each, fcntl.LOCK_EX) for each in held]; open('/run/locked', 'w'); time.sleep(120)`;
  const holder = box.host.exec(["python3", "-c", code, ...files]);
  await until(() => existsSync(join(box.host.root, "run/locked")), "the lock is held", 10_000);
  return async () => {
    await box.host.exec(["pkill", "-f", "fcntl.lockf"]);
    await holder;
  };
}

test("apt's own timers rest while a run installs, those that ran go on after it, also after one that was killed", async () => {
  await box.fresh({ gpus: 0 });
  const timers = "cd /run; ls timer-*; cat /var/log/timers; rm -f /var/log/timers";
  // As this host has been set: one of the two is switched off.
  await box.ssh("systemctl start apt-daily-upgrade.timer; rm /var/log/timers");
  box.killWhen(`\${step:-} == docker && $BASH_COMMAND == "log end \\"\\$outcome\\""*`);
  expect((await box.prepare(guarded, ["-"], BareHost.killing)).changed).not.toEqual([]);
  expect((await box.ssh(timers)).stdout).toBe("stop apt-daily-upgrade.timer\n");
  // This one installs nothing more.
  expect((await box.prepare(guarded)).code).toBe(0);
  expect((await box.ssh(timers)).stdout).toBe("timer-apt-daily-upgrade.timer\nstart apt-daily-upgrade.timer\n");
  expect(await box.prepare(guarded)).toMatchObject({ code: 0, changed: [] });
  expect((await box.ssh(timers)).stdout).toBe("timer-apt-daily-upgrade.timer\n");
  await box.ssh("dpkg --purge --force-all docker-compose-plugin; mv /srv/mirror/docker /srv/mirror/away; apt-get update -qq");
  expect((await box.prepare(guarded)).code).toBe(1);
  const failed = "timer-apt-daily-upgrade.timer\nstop apt-daily-upgrade.timer\nstart apt-daily-upgrade.timer\n";
  expect((await box.ssh(timers)).stdout).toBe(failed);
});

test("a connection that is lost does not stop the run: its result is found afterwards", async () => {
  await box.fresh({ gpus: 0 });
  const client = spawn("ssh", [...box.bed.sshArguments(box.host), "bash /root/prepare-host.sh -"], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  client.stdin.end(values());
  await until(() => existsSync(join(box.host.root, "var/lib/gpuctl/host/values")), "it has begun", 20_000);
  client.kill("SIGKILL");
  await once(client, "exit");
  await until(() => existsSync(join(box.host.root, "var/lib/gpuctl/host/result.json")), "there is a result", 30_000);
  expect(box.result().state).toBe("prepared");
});

test("the rules of the service ports come at boot, although another run holds the lock", async () => {
  await box.fresh({ gpus: 0 });
  expect((await box.prepare(guarded)).code).toBe(0);
  await box.ssh("iptables -F DOCKER-USER");
  const command =
    "flock /run/gpuctl-prepare.lock timeout 20 bash /var/lib/gpuctl/host/prepare-host.sh --firewall; iptables -S DOCKER-USER";
  expect((await box.ssh(command)).stdout).toMatch(
    /"step":"published","event":"end","result":"done"[^]*--ctorigdstport 8001 .*-j DROP/,
  );
  expect(box.result().state).toBe("prepared");
});

describe("a restart", () => {
  test("is only named where nobody allowed it, and the run after it verifies", async () => {
    await box.fresh({ kernel: "6.8.0-88-generic" });
    const { code } = await box.prepare();
    expect(code).toBe(4);
    expect(box.result()).toMatchObject({ state: "reboot-needed", nextStep: expect.stringContaining("reboot") as string });
    expect(box.result().reason).toMatch(/for another kernel than 6\.8\.0-88-generic/);
    await box.host.powerOff();
    box.write("etc/stand-in/kernel", "6.8.0-90-generic\n");
    await box.powerOn();
    await until(() => box.result().state === "prepared", "it is verified", 30_000);
    expect(box.result().kernel).toBe("6.8.0-90-generic");
    expect(existsSync(join(box.host.root, "var/lib/gpuctl/host/resume"))).toBe(false);
  });
});
