import { describe, expect, test } from "vitest";
import { planFixes, type Fix } from "../../../cli/src/domain/preflight/fixes.js";
import { judgeNode } from "../../../cli/src/domain/preflight/judge.js";
import { factsOf, needs, printed, type Capture, type Changes } from "./captures.js";

const fixes = (capture: Capture, changes: Changes = {}): Fix[] => planFixes(factsOf(capture, changes), needs);
const argv = (capture: Capture, changes: Changes = {}): string[] => fixes(capture, changes).map((fix) => fix.argv.join(" "));

const toBeMended: Changes = {
  "smi-query": [0, printed("t4-ubuntu", "smi-query").replace("Enabled", "Disabled")],
  holds: [0, "nvidia-utils-580-server\n"],
  "cdi-files": [0, ""],
  "data-disk": [0, printed("t4-ubuntu", "data-disk").replace("/var/lib/gpuctl", "/var/lib")],
};

test("a good node needs no repair", () => {
  expect(fixes("t4-ubuntu")).toEqual([]);
});

test("each repair is one command, by sudo where that is the way, and names the finding it mends", () => {
  expect(argv("t4-ubuntu", toBeMended)).toEqual([
    "sudo -n install -d -m 0750 /var/lib/gpuctl",
    "sudo -n nvidia-smi -pm 1",
    "sudo -n apt-mark hold libnvidia-compute-580-server linux-modules-nvidia-580-server-open-generic",
    "sudo -n nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
  ]);
  const found = new Set(judgeNode(factsOf("t4-ubuntu", toBeMended), needs).map(({ code }) => code));
  for (const { mends } of fixes("t4-ubuntu", toBeMended)) expect(found.has(mends), mends).toBe(true);
});

test("root needs no sudo, and who has no rights is offered nothing", () => {
  expect(argv("t4-ubuntu", { ...toBeMended, identity: [0, "0\nroot\nroot\n"] })[1]).toBe("nvidia-smi -pm 1");
  expect(argv("t4-ubuntu", { ...toBeMended, sudo: [1, "sudo: a password is required"] })).toEqual([]);
});

test("nothing restarts Docker, a container or the machine, or touches a driver", () => {
  const captures: readonly Capture[] = [
    "t4-ubuntu",
    "after-upgrade",
    "bare-ubuntu",
    "wsl2",
    "no-rights",
    "debian-root",
    "busybox",
  ];
  const all = captures.flatMap((capture) => [...argv(capture), ...argv(capture, toBeMended)]);
  expect(
    all.filter((command) => /restart|reboot|modprobe|rmmod|apt(?:-get)? install|systemctl|docker|gpu-reset/.test(command)),
  ).toEqual([]);
});

describe("what is left alone", () => {
  test("a driver that is half upgraded is not held as it is", () => {
    expect(argv("after-upgrade")).toEqual([]);
    expect(argv("t4-ubuntu", { holds: [0, ""], "module-disk": [0, "580.105.08\n"] })).toEqual([]);
  });

  test("a specification that something else writes, or one among several", () => {
    const stale = printed("t4-ubuntu", "cdi-files").replaceAll("580.95.05", "570.172.08");
    expect(argv("t4-ubuntu", { "cdi-files": [0, stale] })).toEqual([]);
    const ours = stale.replace("/var/run/cdi", "/etc/cdi");
    expect(argv("t4-ubuntu", { "cdi-files": [0, ours] })).toEqual([
      "sudo -n nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
    ]);
    expect(argv("t4-ubuntu", { "cdi-files": [0, ours + stale.replace("/var/run/cdi", "/etc/cdi/more")] })).toEqual([]);
  });

  test("persistence on WSL2, where Windows has the driver, and of a card that has failed", () => {
    const off = printed("wsl2", "smi-query").replace("Enabled", "Disabled");
    expect(argv("wsl2", { "smi-query": [0, off] }).filter((command) => command.includes("-pm"))).toEqual([]);
    const lost = printed("t4-ubuntu", "smi-query").replace("Enabled", "Disabled").replace(", 0, 41", ", [GPU is lost], 41");
    expect(argv("t4-ubuntu", { "smi-query": [0, lost] })).toEqual([]);
  });

  test("packages with a name that is none", () => {
    const packages = "ii |nvidia-utils-580-server|1\nii |nvidia-$(reboot)|1\n";
    expect(argv("t4-ubuntu", { holds: [0, ""], packages: [0, packages] })).toEqual([
      "sudo -n apt-mark hold nvidia-utils-580-server",
    ]);
  });

  test("everything of GPUs on a node whose services run on the CPU", () => {
    const services = needs.services.map((service) => ({
      ...service,
      device: { prefer: "cpu", require: null, proof: "self" } as const,
    }));
    expect(planFixes(factsOf("t4-ubuntu", toBeMended), { ...needs, services }).map(({ mends }) => mends)).toEqual([
      "data-directory-missing",
    ]);
  });
});
