/** Hosts that the script refuses to prepare: a system that nobody knows, no GPU, Secure Boot, what somebody else holds or wrote. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { BareHost } from "../support/host-bed/bare-host.js";
import { expectRefused, type Refusal } from "../support/host-bed/refusal.js";

let box: BareHost;

beforeAll(async () => {
  box = await BareHost.start();
}, 900_000);

afterAll(() => box.stop());

const refusals: readonly Refusal[] = [
  { name: "Fedora", options: { system: "fedora-43" }, reason: /Fedora Linux 43 .* is not supported/, next: /install/ },
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
    name: "Secure Boot where neither lspci nor mokutil is installed",
    options: { system: "debian-13", gpus: 0 },
    before: `rm /usr/local/sbin/lspci /usr/local/sbin/mokutil; ! command -v lspci mokutil || exit 1
      mount -t tmpfs tmpfs /sys/bus/pci/devices && mkdir /sys/bus/pci/devices/0000:01:00.0 && cd /sys/bus/pci/devices/0000:01:00.0
      echo 0x10de >vendor; echo 0x030200 >class
      mount -t tmpfs tmpfs /sys/firmware && mkdir -p /sys/firmware/efi/efivars
      printf '\\6\\0\\0\\0\\1' >/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c`,
    reason: /Secure Boot is on.*at the console only/,
    next: /firmware/,
  },
  {
    name: "a firewall whose rule for everybody would become one of ours",
    before: "apt-get update -qq; apt-get install -qq ufw; ufw allow 22/tcp comment mine; ufw --force enable",
    changes: { GPUCTL_SSH_ADDRESSES: "198.18.0.0/15" },
    reason: /^ufw has rules of somebody for everybody: allow 22\/tcp$/,
    next: /^ufw allow from YOUR-ADDRESS to any port 22 proto tcp; ufw delete allow 22\/tcp; then run this again$/,
  },
  {
    name: "a Docker of its own repository that is too old",
    before: `mkdir -p /root/old/DEBIAN; printf 'Package: docker-ce\\nVersion: 5:24.0.9-1\\nArchitecture: all\\nMaintainer: n <n@example.org>\\nDescription: old\\n' >/root/old/DEBIAN/control
      dpkg-deb --build /root/old /root/old.deb && dpkg -i /root/old.deb`,
    reason: /^Docker 24\.0\.9-1 is too old: GPUs by CDI need 25 or newer$/,
    next: /^apt-get install --only-upgrade docker-ce /,
  },
  {
    name: "held packages",
    before: "apt-get update -qq; apt-mark hold nvidia-utils-580-server",
    reason: /are held: .*nvidia-utils-580-server/,
    next: /apt-mark unhold/,
  },
  {
    name: "a daemon.json that is no text",
    before: `printf '{ "labels": ["gr\\xf6\\xdfe"] }' >/etc/docker/daemon.json`,
    reason: /cannot be read: \/etc\/docker\/daemon\.json is not UTF-8: .*0xf6[^\n]*$/,
    next: /nano/,
  },
];

test.each(refusals)("$name: refused by its name, and nothing is changed", (refusal) => expectRefused(box, refusal));

test("a removal takes away what a refused run left: there is nothing that the next look would take for a preparation", async () => {
  await box.fresh({ system: "fedora-43" });
  expect((await box.prepare()).code).toBe(3);
  expect((await box.prepare("", ["--remove"])).code).toBe(0);
  expect((await box.ssh("ls /var/lib/gpuctl/host /var/log/gpuctl")).stdout).toBe("");
});
