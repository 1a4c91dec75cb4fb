/** The script that prepares hosts: what it makes of a bare one, and values that it refuses. */
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../support/bed/shell.js";
import { BareHost, script, values } from "../support/host-bed/bare-host.js";
import { until } from "../support/until.js";

let box: BareHost;

beforeAll(async () => {
  box = await BareHost.start();
}, 900_000);

afterAll(() => box.stop());

test("shellcheck finds nothing in the script", async () => {
  expect(await run("shellcheck", ["--shell=bash", script])).toMatchObject({ code: 0, stdout: "" });
});

const guarded = { GPUCTL_SERVICE_PORTS: "8001,8003", GPUCTL_APP_ADDRESSES: "10.0.0.0/8,fd00::/8" };

describe("a bare Ubuntu 24.04 with a GPU, and a daemon.json with other people's settings", () => {
  const theirs = { "log-opts": { "max-size": "10m" }, features: { buildkit: true }, labels: ["größe=klein"] };

  beforeAll(async () => {
    await box.fresh();
    box.write("etc/docker/daemon.json", JSON.stringify(theirs));
    box.write("etc/stand-in/docker-version", "27.5.1\n");
  });

  test("is prepared in one run, and a second changes nothing and takes seconds", async () => {
    const first = await box.prepare(values(guarded));
    expect(first, first.stdout).toMatchObject({ code: 0, stderr: "" });
    expect(box.result()).toMatchObject({
      state: "prepared",
      reason: null,
      driver: "580.95.05",
      toolkit: "1.20.0-1",
      docker: "27.5.1",
      kernel: "6.8.0-90-generic",
      gpus: [{ uuid: "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d", name: "Tesla T4", memory: 15360 }],
    });
    const before = await traces();
    const second = await box.prepare(values(guarded));
    expect(second).toMatchObject({ code: 0, changed: [], stderr: "" });
    // On a machine with much else to do, everything takes longer.
    expect(second.seconds).toBeLessThan(Math.max(10, first.seconds / 2));
    expect(await traces()).toBe(before);
  });

  test("keeps what was in daemon.json and adds CDI", () => {
    expect(JSON.parse(box.read("etc/docker/daemon.json"))).toEqual({ ...theirs, features: { buildkit: true, cdi: true } });
  });

  test("holds the driver set and keeps unattended upgrades from it", async () => {
    const held = (await box.ssh("apt-mark showhold")).stdout.split("\n");
    expect(held).toEqual(
      expect.arrayContaining([
        "linux-modules-nvidia-580-server-open-generic",
        "linux-modules-nvidia-580-server-open-6.8.0-90-generic",
        "nvidia-utils-580-server",
        "nvidia-headless-no-dkms-580-server-open",
        "nvidia-container-toolkit",
      ]),
    );
    const { stdout } = await box.ssh("apt-config dump Unattended-Upgrade::Package-Blacklist");
    for (const prefix of ["nvidia-", "libnvidia-", "linux-modules-", "linux-image-"]) expect(stdout).toContain(`"${prefix}"`);
  });

  test("has the toolkit of the version that was tried, though there is a newer one", async () => {
    const { stdout } = await box.ssh(
      "apt-cache policy nvidia-container-toolkit | sed -n 's/ *Candidate: //p'; dpkg-query -W -f '${Package} ${Version}\n' 'nvidia-container-*' 'libnvidia-container*'",
    );
    expect(stdout.trim().split("\n")).toEqual([
      "1.21.0-1",
      "libnvidia-container-tools 1.20.0-1",
      "libnvidia-container1 1.20.0-1",
      "nvidia-container-toolkit 1.20.0-1",
      "nvidia-container-toolkit-base 1.20.0-1",
    ]);
  });

  test("lets only the app's networks at the service ports, those of Docker and those of others", async () => {
    const published = (await box.ssh("iptables -S DOCKER-USER")).stdout;
    expect(published).toMatch(
      /-s 10\.0\.0\.0\/8 -p tcp .*--ctorigdstport 8001 .*-j RETURN\n-A DOCKER-USER -p tcp .*--ctorigdstport 8001 .*-j DROP/,
    );
    expect((await box.ssh("ip6tables -S DOCKER-USER")).stdout).toContain("-s fd00::/8");
    const { stdout } = await box.ssh("ufw status");
    expect(stdout).toMatch(/8003\/tcp +ALLOW +10\.0\.0\.0\/8/);
    expect(stdout).toMatch(/8003\/tcp +DENY +Anywhere/);
    expect(stdout).not.toMatch(/^22\/tcp/m);
  });

  test("has a user who may deploy: by key, with Docker, and root without a password", async () => {
    expect((await box.ssh("id -nG ops; sudo -u ops sudo -n id -un; cat ~ops/.ssh/authorized_keys")).stdout).toMatch(
      /^.*docker.*\nroot\n# gpuctl begin\nssh-ed25519 .* ops@desk\n# gpuctl end\n$/,
    );
  });

  test("changes of the values reach rules and keys, and rules of others stay", async () => {
    await box.ssh("iptables -A DOCKER-USER -s 192.0.2.7 -j DROP; echo 'ssh-rsa AAAA other@desk' >>~ops/.ssh/authorized_keys");
    const { code } = await box.prepare(values({ GPUCTL_SERVICE_PORTS: "8002", GPUCTL_APP_ADDRESSES: "10.1.0.0/16" }));
    expect(code).toBe(0);
    const rules = (await box.ssh("iptables -S DOCKER-USER; ufw show added; cat ~ops/.ssh/authorized_keys")).stdout;
    expect(rules).not.toContain("8001");
    expect(rules).toContain("-s 10.1.0.0/16");
    expect(rules).toContain("-A DOCKER-USER -s 192.0.2.7/32 -j DROP");
    expect(rules).toContain("other@desk");
  });

  test("SSH is kept to the networks that were named, everybody and single addresses are understood, and nobody is locked out", async () => {
    const narrow = values({
      ...guarded,
      GPUCTL_SSH_ADDRESSES: "198.18.0.0/15,203.0.113.9",
      GPUCTL_APP_ADDRESSES: "0.0.0.0/0,::/0",
    });
    expect((await box.prepare(narrow)).code).toBe(0);
    expect(await box.prepare(narrow)).toMatchObject({ code: 0, changed: [] });
    const { code, stdout } = await box.ssh("ufw status");
    expect(code).toBe(0);
    expect(stdout).toMatch(/22\/tcp +ALLOW +203\.0\.113\.9 /);
    expect(stdout).toMatch(/22\/tcp +DENY +Anywhere/);
    expect(stdout).toMatch(/8001\/tcp +ALLOW +Anywhere/);
  });

  test("what a person changed is found without changing it, and mended by the next run", async () => {
    await box.ssh("apt-mark unhold nvidia-utils-580-server; iptables -F DOCKER-USER; ufw --force disable");
    const found = await box.prepare("", ["--check"]);
    expect(found.code).toBe(1);
    expect(found.stdout).toMatch(
      /not in DOCKER-USER; ufw is not active; packages of the driver set are not held: nvidia-utils-580/,
    );
    expect((await box.ssh("apt-mark showhold")).stdout).not.toContain("nvidia-utils-580-server");
    const mended = await box.prepare(values({ GPUCTL_SERVICE_PORTS: "8002", GPUCTL_APP_ADDRESSES: "10.1.0.0/16" }));
    expect(mended).toMatchObject({ code: 0, changed: ["files", "hold", "ufw", "published"] });
    expect((await box.prepare("", ["--check"])).code).toBe(0);
  });

  test("--remove is refused while releases serve, or may: they would go on answering, and then everybody", async () => {
    const guards = async (): Promise<string> =>
      (await box.ssh("id ops; iptables -S DOCKER-USER; ufw status; apt-mark showhold")).stdout;
    const before = await guards();
    box.write("etc/stand-in/serving", "shop-embedder-a\nshop-reranker-b\n");
    const refused = await box.prepare("", ["--remove"]);
    expect(refused).toMatchObject({ code: 3, changed: [] });
    expect(refused.lines.at(-1)?.detail).toMatch(
      /^releases serve here: shop-embedder-a shop-reranker-b; next: gpuctl destroy, or /,
    );
    // Docker is away, and what it started is not.
    await box.ssh(
      "rm /etc/stand-in/serving; mv /run/docker.cdi /run/away; (exec -a containerd-shim-runc-v2 sleep 300) >/dev/null 2>&1 &",
    );
    const unsure = await box.prepare("", ["--remove"]);
    await box.ssh("pkill -f [c]ontainerd-shim; mv /run/away /run/docker.cdi");
    expect(unsure).toMatchObject({ code: 3, changed: [] });
    expect(unsure.lines.at(-1)?.detail).toContain("Docker does not say which");
    expect(await guards()).toBe(before);
  });

  test("--remove takes away what the script made and nothing else", async () => {
    await box.ssh("iptables -A DOCKER-USER -s 192.0.2.7 -j DROP; systemctl start apt-daily.timer; rm /var/log/timers");
    expect((await box.prepare("", ["--remove"])).code).toBe(0);
    expect((await box.ssh("cat /var/log/timers")).stdout).toBe("stop apt-daily.timer\nstart apt-daily.timer\n");
    const left = await box.ssh(
      "id ops; apt-mark showhold; iptables -S DOCKER-USER; ufw status; find / -xdev -name '*gpuctl*' -not -path '/proc/*'",
    );
    expect(left.stderr).toContain("no such user");
    expect(left.stdout).not.toContain("nvidia");
    expect(left.stdout).toContain("192.0.2.7");
    expect(left.stdout).toContain("Status: inactive");
    const kept = left.stdout.split("\n").filter((line) => line.startsWith("/"));
    // The sources that bring Docker and the toolkit their fixes, and the environments' own data.
    expect(kept.filter((path) => !/^\/etc\/apt\/|^\/var\/lib\/gpuctl$|^\/var\/lib\/apt\//.test(path))).toEqual([]);
    expect((await box.ssh("docker version --format x && nvidia-smi -L")).code).toBe(0);
  });

  /** Everything that a run could change, but its own result and log. */
  const traces = async (): Promise<string> =>
    (
      await box.ssh(
        "find /etc /usr /home /root /var/lib/dpkg /var/lib/apt /lib/modules /var/lib/gpuctl -xdev -type f -not -name result.json -not -path '/etc/stand-in/*' -printf '%p %T@ %s\\n' | sort; iptables -S; ip6tables -S",
      )
    ).stdout;
});

describe("other systems and hosts", () => {
  test.each(["ubuntu-22.04"] as const)("%s without a GPU gets Docker only", async (system) => {
    await box.fresh({ system, gpus: 0 });
    const { code, stdout } = await box.prepare();
    expect(code, stdout).toBe(0);
    expect(box.result()).toMatchObject({ state: "prepared", gpus: [], driver: null, toolkit: null });
    expect(box.read("etc/docker/daemon.json")).not.toContain("features");
  });

  test("a host without swap, or that gives out no more memory than it has, is warned of when that is new", async () => {
    await box.fresh({ gpus: 0 });
    const warned = async (swapMiB: number, overcommit: number): Promise<(string | undefined)[]> => {
      await box.host.must([
        "bash",
        "-c",
        `umount /proc/meminfo /proc/sys/vm/overcommit_memory 2>/dev/null
        printf 'MemTotal: 16384000 kB\nSwapTotal: ${swapMiB * 1024} kB\n' >/run/meminfo; echo ${overcommit} >/run/overcommit
        mount --bind /run/meminfo /proc/meminfo && mount --bind /run/overcommit /proc/sys/vm/overcommit_memory`,
      ]);
      const { code, lines, stdout } = await box.prepare();
      expect(code, stdout).toBe(0);
      const said = lines.filter(({ step }) => step === "limits");
      expect(said.at(-1)?.detail).toBe(`${swapMiB} MiB of swap`);
      return said.filter(({ event }) => event === "warning").map(({ detail }) => detail);
    };
    expect(await warned(0, 2)).toEqual([
      "no swap: what needs more memory than there is, is ended by the kernel; vm.overcommit_memory is 2: CUDA reserves more than it uses and may fail",
    ]);
    expect(await warned(0, 2)).toEqual([]);
    expect(await warned(2048, 0)).toEqual([]);
    expect(await warned(0, 1)).toEqual(["no swap: what needs more memory than there is, is ended by the kernel"]);
  });

  test("a host that forwards nothing is not in order: its published ports would lead nowhere", async () => {
    await box.ssh("echo 0 >/proc/sys/net/ipv4/ip_forward");
    const reason = "net.ipv4.ip_forward is 0: published ports lead nowhere";
    const { code, stdout } = await box.prepare("", ["--check"]);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ state: "failed", reason });
    expect((await box.prepare()).code).toBe(1);
    expect(box.result()).toMatchObject({ state: "failed", step: "verify", reason });
    await box.ssh("echo 1 >/proc/sys/net/ipv4/ip_forward");
    expect((await box.prepare("", ["--check"])).code).toBe(0);
  });

  test("Debian 13 gets the driver from NVIDIA's repository, built on the host and pinned", async () => {
    await box.fresh({ system: "debian-13" });
    const { code, stdout } = await box.prepare();
    expect(code, stdout).toBe(0);
    expect(box.result()).toMatchObject({ state: "prepared", driver: "580.95.05" });
    expect((await box.ssh("apt-mark showhold")).stdout).toContain("nvidia-kernel-open-dkms");
    expect(await box.prepare()).toMatchObject({ code: 0, changed: [] });
  });
});

describe("a kernel for newer hardware, with Secure Boot", () => {
  const reboots = async (reason: string): Promise<void> => {
    expect((await box.prepare()).code).toBe(4);
    expect(box.result()).toMatchObject({ state: "reboot-needed", step: "reboot", reason });
  };

  test("gets signed modules by the meta-package of such kernels, and nothing refuses", async () => {
    await box.fresh({ kernel: "6.14.0-37-generic", secureBoot: true });
    await box.host.must(["bash", "-c", "apt-get update -qq; apt-get install -qq linux-image-generic-hwe-24.04"]);
    const { code, stdout } = await box.prepare();
    expect(code, stdout).toBe(0);
    expect(box.result()).toMatchObject({ state: "prepared", driver: "580.95.05", kernel: "6.14.0-37-generic" });
    const held = (await box.ssh("apt-mark showhold")).stdout.split("\n");
    expect(held).toEqual(
      expect.arrayContaining([
        "linux-image-generic-hwe-24.04",
        "linux-modules-nvidia-580-server-open-generic-hwe-24.04",
        "linux-modules-nvidia-580-server-open-6.14.0-37-generic",
      ]),
    );
    expect(held.filter((name) => name.endsWith("-generic") && !name.includes("6.14"))).toEqual([]);
    expect(await box.prepare()).toMatchObject({ code: 0, changed: [] });
  });

  test("needs a restart when another driver is loaded than is installed, or nvidia-smi says so", async () => {
    await box.ssh("echo 580.82.07 >/sys/module/nvidia/version");
    await reboots("the kernel has driver 580.82.07 loaded, and 580.95.05 is installed");
    await box.ssh("echo 580.95.05 >/sys/module/nvidia/version; echo 580.105.08-1 >/usr/lib/stand-in/library");
    await reboots("the driver was upgraded under the module that is loaded");
    await box.ssh("echo 580.95.05-1 >/usr/lib/stand-in/library");
    expect((await box.prepare()).code).toBe(0);
  });

  test("that refuses a module's signature is said so, with the ways out", async () => {
    await box.ssh("rm -r /sys/module/nvidia; touch /etc/stand-in/key-rejected");
    expect((await box.prepare()).code).toBe(1);
    expect(box.result()).toMatchObject({
      state: "failed",
      step: "module",
      reason: "Secure Boot refuses the signature of the driver",
    });
    expect(box.result().nextStep).toMatch(/switch Secure Boot off in the firmware/);
  });
});

describe("values that are wrong are refused with 2", () => {
  beforeAll(() => box.fresh({ gpus: 0 }));

  test.each([
    ["an unknown one", values({ GPUCTL_TOKEN: "x" }), /unknown value GPUCTL_TOKEN/],
    ["a port that is none", values({ GPUCTL_SERVICE_PORTS: "8001,70000" }), /70000 is no port/],
    ["a network that is none", values({ GPUCTL_APP_ADDRESSES: "10.0.0.0/33" }), /GPUCTL_APP_ADDRESSES/],
    ["a repository without TLS", values({ GPUCTL_DOCKER_REPOSITORY: "http://mirror/linux" }), /https/],
    ["a user with a shell in its name", values({ GPUCTL_DEPLOY_USER: "a;reboot" }), /user name/],
    ["a key that is none", values({ GPUCTL_AUTHORIZED_KEY: "command=rm ssh-rsa" }), /public key/],
    ["a list that was cut off on its way", `GPUCTL_VALUES=9\n${values()}`, /8 of 9 values arrived/],
  ])("%s", async (_, input, said) => {
    const { code, stdout } = await box.prepare(input);
    expect(code).toBe(2);
    expect(stdout).toMatch(said);
  });

  test("a path of ours that is asked for twice at once is prepared once, and both say so", async () => {
    const [one, two] = await Promise.all([box.prepare(), wait(300).then(() => box.prepare())]);
    expect([one.code, two.code]).toEqual([0, 0]);
    expect([one, two].some(({ stdout }) => stdout.includes("another run prepares this host"))).toBe(true);
    expect([one.changed.includes("docker"), two.changed.includes("docker")].filter(Boolean)).toHaveLength(1);
    await until(async () => (await box.prepare()).changed.length === 0, "nothing is left to do", 20_000);
  });
});
