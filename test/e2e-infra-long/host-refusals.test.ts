/** What the script that prepares hosts refuses, each on a host of its own, of which nothing is changed. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BareHost, values } from "../support/host-bed/bare-host.js";

let box: BareHost;

beforeAll(async () => {
  box = await BareHost.start();
}, 900_000);

afterAll(() => box.stop());

describe("a host that cannot be prepared is refused by its name, and nothing is changed", () => {
  interface Refusal {
    name: string;
    options?: Parameters<BareHost["fresh"]>[0];
    before?: string;
    changes?: Readonly<Record<string, string | null>>;
    reason: RegExp;
    next: RegExp;
  }
  const refusals: readonly Refusal[] = [
    { name: "Fedora", options: { system: "fedora-43" }, reason: /Fedora Linux 43 .* is not supported/, next: /install/ },
    {
      name: "Ubuntu 20.04",
      options: { system: "ubuntu-20.04" },
      reason: /Ubuntu 20\.04\.6 LTS is not supported/,
      next: /install/,
    },
    {
      name: "no GPU though one is required",
      options: { gpus: 0 },
      changes: { GPUCTL_GPU: "require" },
      reason: /no NVIDIA GPU/,
      next: /lspci/,
    },
    {
      name: "Secure Boot with a driver to be built",
      options: { system: "debian-13", secureBoot: true },
      reason: /Secure Boot is on.*at the console only/,
      next: /firmware/,
    },
    {
      name: "held packages",
      before: "apt-get update -qq; apt-mark hold nvidia-utils-580-server",
      reason: /are held: .*nvidia-utils-580-server/,
      next: /apt-mark unhold/,
    },
    {
      name: "a daemon.json that is no JSON",
      before: `printf '{\\n  "log-driver": "json-file",\\n}\\n' >/etc/docker/daemon.json`,
      reason: /daemon\.json:[23]:\d+: \S/,
      next: /nano/,
    },
    {
      name: "Docker as a snap",
      before: "mkdir -p /snap/bin; touch /snap/bin/docker",
      reason: /snap/,
      next: /snap remove docker/,
    },
    {
      name: "Docker of the distribution",
      before: "apt-get update -qq; apt-get install -qq docker.io",
      reason: /docker\.io/,
      next: /apt-get remove docker\.io/,
    },
    {
      name: "another driver",
      before: "mkdir -p /sys/module/nvidia; echo 535.183.01 >/sys/module/nvidia/version",
      reason: /535\.183\.01.*580 or newer/,
      next: /nvidia-uninstall/,
    },
    {
      name: "rules that would lock out who prepares it",
      changes: { GPUCTL_SSH_ADDRESSES: "203.0.113.0/24" },
      reason: /you come from 198\.1[89]\..*locked out/,
      next: /198\.1[89]\./,
    },
    {
      name: "a firewall that is switched off, with rules of somebody",
      before: "apt-get update -qq; apt-get install -qq ufw; ufw allow 443/tcp",
      changes: { GPUCTL_SERVICE_PORTS: "8001", GPUCTL_APP_ADDRESSES: "10.0.0.0/8" },
      reason: /ufw has rules of somebody/,
      next: /ufw enable/,
    },
    {
      name: "a source that contradicts the toolkit's",
      before: "touch /etc/apt/sources.list.d/nvidia-docker.list",
      reason: /contradicts/,
      next: /rm /,
    },
    {
      name: "a disk with no room",
      before: `printf '#!/bin/sh\necho; echo x 1 1 100 1 /\n' >/usr/local/sbin/df; chmod +x /usr/local/sbin/df`,
      reason: /100 MiB are free/,
      next: /df -h/,
    },
  ];

  test.each(refusals)("$name", async ({ options, before, changes = {}, reason, next }) => {
    await box.fresh(options);
    if (before !== undefined) await box.host.must(["bash", "-c", before]);
    const files = await state();
    const { code, stdout } = await box.prepare(values(changes));
    expect(code, stdout).toBe(3);
    expect(box.result()).toMatchObject({ state: "refused" });
    expect(box.result().reason).toMatch(reason);
    expect(box.result().nextStep).toMatch(next);
    expect(await state()).toBe(files);
  });

  const state = async (): Promise<string> =>
    (
      await box.ssh(
        "find /etc /usr /home -xdev -type f -printf '%p %T@\\n' | sort; cat /var/lib/dpkg/status | sha256sum; iptables -S; id ops",
      )
    ).stdout;
});
