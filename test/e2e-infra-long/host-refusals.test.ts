/** What else the script that prepares hosts refuses, each on a host of its own, of which nothing is changed. */
import { afterAll, beforeAll, test } from "vitest";
import { BareHost } from "../support/host-bed/bare-host.js";
import { expectRefused, type Refusal } from "../support/host-bed/refusal.js";

let box: BareHost;

beforeAll(async () => {
  box = await BareHost.start();
}, 900_000);

afterAll(() => box.stop());

const refusals: readonly Refusal[] = [
  {
    name: "Ubuntu 20.04",
    options: { system: "ubuntu-20.04" },
    reason: /Ubuntu 20\.04\.6 LTS is not supported/,
    next: /install/,
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
    name: "a firewall that only slows everybody down where nobody else may come",
    before: "apt-get update -qq; apt-get install -qq ufw; ufw allow from 198.18.0.0/15; ufw limit 8001; ufw --force enable",
    changes: { GPUCTL_SERVICE_PORTS: "8001", GPUCTL_APP_ADDRESSES: "10.0.0.0/8" },
    reason: /for everybody: limit 8001$/,
    next: /ufw delete limit 8001;/,
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

test.each(refusals)("$name: refused by its name, and nothing is changed", (refusal) => expectRefused(box, refusal));
