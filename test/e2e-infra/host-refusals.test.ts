/** Hosts that the script refuses to prepare: a system that nobody knows, no GPU, Secure Boot, what somebody else holds or wrote. */
import { afterAll, beforeAll, test } from "vitest";
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
