import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { doctorText, tally } from "../../../cli/src/domain/doctor/diagnose.js";
import type { DoctorFinding } from "../../../cli/src/domain/doctor/finding.js";
import { judgeNode } from "../../../cli/src/domain/preflight/judge.js";
import type { NodeNeeds, ServiceNeeds } from "../../../cli/src/domain/preflight/needs.js";
import { readNodeFacts } from "../../../cli/src/domain/preflight/read-facts.js";
import { factsOf, moment, needs, nodes, outputOf, printed, service, type Capture, type Changes } from "./captures.js";

const cuda = (changes: Partial<ServiceNeeds> = {}): ServiceNeeds => ({ ...service, ...changes });
const want = (changes: Partial<NodeNeeds> = {}): NodeNeeds => ({ ...needs, ...changes });
const onCpu = want({ services: [cuda({ device: { prefer: "cpu", require: null, proof: "self" }, gpu: null, vramMiB: null })] });
const maybe = want({ services: [cuda({ device: { prefer: "cuda", require: null, proof: "self" } })] });

test.each(nodes)("the report of %s", async (name) => {
  const report = doctorText(judgeNode(factsOf(name), needs));
  await expect(`${report}\n`).toMatchFileSnapshot(`../../golden/preflight/${name}.report.txt`);
});

test("a node that is as it should be has nothing but good findings", () => {
  expect(tally(judgeNode(factsOf("t4-ubuntu"), needs))).toEqual({ blockers: 0, warnings: 0 });
});

const info = (changes: Record<string, unknown>): readonly [number, string] => [
  0,
  JSON.stringify({ ...(JSON.parse(printed("t4-ubuntu", "docker-info")) as object), ...changes }),
];
const engine = (version: string): readonly [number, string] => [
  0,
  JSON.stringify({ Client: { Version: version }, Server: { Version: version, ApiVersion: "1.45" } }),
];
const container = (name: string, ports: string): readonly [number, string] => [
  0,
  JSON.stringify({ ID: "77".repeat(32), Names: name, Image: "redis:8", Labels: "", Ports: ports }),
];
const smi = (line: string): readonly [number, string] => [0, line];
const t4 = "0, GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d, Tesla T4, 580.95.05, 7.5, 15360, 2310, 12606, [N/A], 0, 41, Enabled";
const spec = (path: string, driver: string, ...more: string[]): string =>
  [
    `file 1794900000 ${path}`,
    `  host-driver-version=${driver}`,
    "  kind: nvidia.com/gpu",
    "  name: GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d",
    "  name: all",
    ...more,
    "",
  ].join("\n");
const df = (kibibytes: number, inodes = 29_886_812): string =>
  `/dev/nvme0n1p2 479079112 1 ${kibibytes.toString()} 14% /\n/dev/nvme0n1p2 30498816 1 ${inodes.toString()} 3% /\n`;
const noGpu: Changes = { "smi-query": [127, ""], module: [1, ""], pci: [0, "0"], modules: [0, ""] };

type Case = readonly [level: DoctorFinding["level"], capture: Capture, changes: Changes, needs?: NodeNeeds];

/** For every code that a finding can have, a node on which it appears. */
const cases: Readonly<Record<string, Case>> = {
  access: ["ok", "t4-ubuntu", {}],
  "no-root": ["blocker", "no-rights", {}],
  "probes-incomplete": ["warning", "t4-ubuntu", {}],
  "probes-hang": ["warning", "t4-ubuntu", { synchronised: [124, ""] }],
  system: ["ok", "t4-ubuntu", {}],
  "system-unknown": ["warning", "t4-ubuntu", { kernel: [127, ""] }],
  "system-unsupported": ["blocker", "t4-ubuntu", { kernel: [0, "Darwin\n25.0.0\narm64\n"] }],
  "architecture-unsupported": ["blocker", "t4-ubuntu", { kernel: [0, "Linux\n6.1.0\nriscv64\n"] }],
  wsl1: ["blocker", "wsl2", { kernel: [0, "Linux\n4.4.0-19041-Microsoft\nx86_64\nLinux version 4.4.0-19041-Microsoft\n"] }],
  wsl2: ["ok", "wsl2", {}],
  clock: ["ok", "t4-ubuntu", {}],
  "clock-unknown": ["warning", "t4-ubuntu", { clock: [127, ""] }],
  "clock-skew": ["warning", "t4-ubuntu", { clock: [0, "1795257993.5"] }],
  "clock-wrong": ["blocker", "t4-ubuntu", { clock: [0, "1795251000.0"] }],
  "clock-unsynchronised": ["warning", "bare-ubuntu", {}],
  memory: ["ok", "t4-ubuntu", {}],
  "memory-unknown": ["warning", "t4-ubuntu", { memory: [1, ""] }],
  "memory-low": ["warning", "t4-ubuntu", { memory: [0, "MemTotal: 8000000 kB\nMemAvailable: 1000000 kB\n"] }],
  disk: ["ok", "t4-ubuntu", {}],
  "disk-unknown": ["warning", "t4-ubuntu", { "docker-disk": [1, ""] }],
  "disk-low": ["warning", "t4-ubuntu", { "docker-disk": [0, `/var/lib/docker\n${df(9e6)}`] }, want({ modelBytes: null })],
  "disk-full": ["blocker", "t4-ubuntu", { "docker-disk": [0, `/var/lib/docker\n${df(9e6)}`] }],
  "inodes-low": ["warning", "t4-ubuntu", { "docker-disk": [0, `/var/lib/docker\n${df(9e8, 20_000)}`] }],
  "data-directory": ["ok", "t4-ubuntu", {}],
  "data-directory-missing": ["ok", "wsl2", {}],
  "data-not-writable": ["blocker", "no-rights", {}],
  "docker-missing": ["blocker", "bare-ubuntu", {}],
  "docker-permission": ["blocker", "no-rights", {}],
  "docker-stopped": ["blocker", "debian-root", {}],
  "docker-hangs": ["blocker", "t4-ubuntu", { "docker-access": [124, "user\n"] }],
  docker: ["ok", "t4-ubuntu", {}],
  "docker-old": ["blocker", "t4-ubuntu", { "docker-version": engine("24.0.9") }],
  "docker-snap": ["blocker", "t4-ubuntu", { "docker-path": [0, "/snap/bin/docker\n/usr/bin/snap\n"] }],
  "docker-rootless": ["warning", "t4-ubuntu", { "docker-info": info({ SecurityOptions: ["name=rootless"] }) }],
  compose: ["ok", "t4-ubuntu", {}],
  "compose-missing": ["blocker", "t4-ubuntu", { compose: [1, "", "docker: unknown command: docker compose\n"] }],
  "compose-old": ["blocker", "t4-ubuntu", { compose: [0, "1.29.2\n"] }],
  "storage-driver": ["warning", "t4-ubuntu", { "docker-info": info({ Driver: "vfs" }) }],
  cdi: ["ok", "t4-ubuntu", {}],
  "cdi-off": ["blocker", "t4-ubuntu", { "docker-version": engine("27.5.1"), "docker-info": info({ CDISpecDirs: [] }) }],
  "cdi-spec-broken": [
    "blocker",
    "t4-ubuntu",
    {
      "docker-info": info({
        DiscoveredDevices: null,
        Warnings: [
          "WARNING: IPv4 forwarding is disabled",
          'CDI: Error associated with spec file /etc/cdi/other.yaml: conflicting device "nvidia.com/gpu=all" (specs "/etc/cdi/other.yaml", "/etc/cdi/nvidia.yaml")',
        ],
      }),
    },
  ],
  "port-free": ["ok", "wsl2", {}],
  "port-ours": ["ok", "t4-ubuntu", {}],
  "port-taken": ["blocker", "bare-ubuntu", {}, want({ bind: "203.0.113.7" })],
  "listeners-unknown": ["warning", "t4-ubuntu", { listeners: [1, ""], "listeners-proc": [126, ""] }],
  "bind-missing": ["blocker", "t4-ubuntu", {}, want({ bind: "10.0.0.99" })],
  exposure: ["ok", "t4-ubuntu", {}],
  "port-exposed": ["warning", "t4-ubuntu", {}, want({ bind: "0.0.0.0" })],
  "port-public": ["blocker", "t4-ubuntu", {}, want({ bind: "0.0.0.0", services: [cuda({ keys: false })] })],
  "firewall-unknown": ["warning", "no-rights", {}],
  "docker-bypasses-ufw": ["warning", "t4-ubuntu", { "docker-ps": container("cache", "0.0.0.0:6379->6379/tcp") }],
  gpu: ["ok", "t4-ubuntu", {}],
  "gpu-failed": ["warning", "t4-ubuntu", { "smi-query": smi(t4.replace(", 0, 41", ", [GPU is lost], 41")) }],
  "gpu-old": ["warning", "t4-ubuntu", { "smi-query": smi(t4.replace("7.5", "5.2")) }],
  "gpu-small": ["warning", "t4-ubuntu", { "smi-query": smi(t4.replace("15360", "2048")) }],
  "gpu-memory-errors": ["warning", "t4-ubuntu", { "smi-query": smi(t4.replace(", 0, 41", ", 3, 41")) }],
  "mig-without-instance": ["warning", "t4-ubuntu", { "smi-query": smi(t4.replace("[N/A], 0", "Enabled, 0")) }],
  "proof-impossible": [
    "blocker",
    "wsl2",
    {},
    want({ services: [cuda({ device: { prefer: "cuda", require: "cuda", proof: "process" } })] }),
  ],
  "no-gpu": ["blocker", "t4-ubuntu", noGpu],
  "driver-mismatch": ["blocker", "after-upgrade", {}],
  "driver-tools-missing": ["blocker", "t4-ubuntu", { "smi-query": [127, ""] }],
  "driver-missing": ["blocker", "bare-ubuntu", {}],
  "driver-not-loaded": [
    "blocker",
    "t4-ubuntu",
    { "smi-query": [9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure it runs.\n"] },
  ],
  "driver-unsigned": [
    "blocker",
    "t4-ubuntu",
    {
      "smi-query": [9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n"],
      "secure-boot": [0, "  6   0   0   0   1\n"],
    },
  ],
  "driver-nouveau": [
    "blocker",
    "t4-ubuntu",
    {
      "smi-query": [9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n"],
      modules: [0, "nouveau\n"],
    },
  ],
  "driver-hangs": ["blocker", "t4-ubuntu", { "smi-query": [124, ""] }],
  "driver-failed": ["blocker", "t4-ubuntu", { "smi-query": [255, "", "something else\n"] }],
  "driver-old": ["warning", "t4-ubuntu", { "smi-query": smi(t4.replace("580.95.05", "535.183.01")) }],
  driver: ["ok", "t4-ubuntu", {}],
  "driver-pending": ["warning", "t4-ubuntu", { "module-disk": [0, "580.105.08\n"] }],
  "gpu-not-found": ["blocker", "t4-ubuntu", {}, want({ services: [cuda({ gpu: "GPU-00000000-0000-0000-0000-000000000000" })] })],
  vram: ["ok", "t4-ubuntu", {}],
  "vram-low": ["blocker", "t4-ubuntu", {}, want({ services: [cuda({ vramMiB: 15_000 })] })],
  "vram-shared": ["warning", "t4-ubuntu", { "gpu-owners": [0, "pid 5120 blender\n  0::/user.slice\n"] }],
  "kernel-log": ["ok", "t4-ubuntu", {}],
  "kernel-log-unknown": ["warning", "no-rights", {}],
  "gpu-xid": [
    "warning",
    "t4-ubuntu",
    {
      "kernel-log": [
        0,
        "[812.51] NVRM: Xid (PCI:0000:65:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.\n",
      ],
    },
  ],
  persistence: ["ok", "t4-ubuntu", {}],
  "persistence-off": ["warning", "t4-ubuntu", { "smi-query": smi(t4.replace("Enabled", "Disabled")) }],
  "uvm-missing": ["warning", "t4-ubuntu", { modules: [0, "nvidia\n"] }],
  "reboot-pending": ["warning", "after-upgrade", {}],
  "driver-held": ["ok", "t4-ubuntu", {}],
  "driver-not-held": ["warning", "after-upgrade", {}],
  "container-toolkit": ["ok", "t4-ubuntu", {}],
  "container-toolkit-missing": ["blocker", "bare-ubuntu", {}],
  "cdi-unknown": ["warning", "t4-ubuntu", { "cdi-files": [126, ""] }],
  "cdi-spec-missing": ["blocker", "t4-ubuntu", { "cdi-files": [0, ""] }],
  "cdi-spec-stale": ["blocker", "t4-ubuntu", { "cdi-files": [0, spec("/etc/cdi/nvidia.yaml", "570.172.08")] }],
  "cdi-hook-missing": [
    "blocker",
    "t4-ubuntu",
    { "cdi-files": [0, spec("/etc/cdi/nvidia.yaml", "580.95.05", "  no-hook /usr/bin/nvidia-ctk")] },
  ],
  "cdi-devices": ["ok", "t4-ubuntu", {}],
  "cdi-device-missing": ["blocker", "wsl2", {}],
};

const judged = ([, capture, changes, wanted]: Case, code: string): DoctorFinding[] => {
  const output = outputOf(capture, changes);
  const whole = code === "probes-incomplete" ? output.slice(0, -5) : output;
  return judgeNode(readNodeFacts(whole, null, { asked: moment, answered: moment + 500 }), wanted ?? needs);
};

test.each(Object.entries(cases))("%s is found where it belongs", (code, one) => {
  const found = judged(one, code).find((finding) => finding.code === code);
  expect(found?.level).toBe(one[0]);
  if (one[0] === "ok") return;
  expect(found?.because).toBeTruthy();
  expect(found?.nextSteps?.length).toBeGreaterThan(0);
});

test("every finding is absent from some node: a bad one from the good node, a good one from a bad node", () => {
  const good = new Set(judged(["ok", "t4-ubuntu", {}], "").map(({ code }) => code));
  // A node of which nothing is known but that it is there.
  const blank = new Set(judgeNode(readNodeFacts("", null, { asked: 0, answered: 0 }), needs).map(({ code }) => code));
  for (const [code, [level]] of Object.entries(cases)) expect((level === "ok" ? blank : good).has(code), code).toBe(false);
});

test("the table above has every code that the checks can give", () => {
  const folder = new URL("../../../cli/src/domain/preflight/", import.meta.url);
  const sources = readdirSync(folder)
    .filter((name) => /^check-.*\.ts$/.test(name))
    .map((name) => readFileSync(new URL(name, folder), "utf8"));
  const literal =
    /\b(?:ok|warning|blocker|level)\(\s*"[A-Za-z]+",\s*(?:[^",]+\? )?"([a-z0-9-]+)"(?: : "([a-z0-9-]+)")?|code: "([a-z0-9-]+)"/g;
  const codes = sources.flatMap((source) => [...source.matchAll(literal)].flatMap((match) => match.slice(1).filter(Boolean)));
  expect(new Set(codes).size).toBeGreaterThan(60);
  expect([...new Set(codes)].filter((code) => !(code in cases))).toEqual([]);
});

describe("levels follow what was asked for", () => {
  test("without a GPU, services that require one are stopped, those that prefer one are warned, others are left alone", () => {
    const level = (wanted: NodeNeeds): unknown =>
      judgeNode(factsOf("t4-ubuntu", noGpu), wanted).find(({ code }) => code === "no-gpu")?.level;
    expect([level(needs), level(maybe), level(onCpu)]).toEqual(["blocker", "warning", "ok"]);
  });

  test("where there is no card, CDI, toolkit and kernel log are not spoken of", () => {
    const gpu = judgeNode(factsOf("debian-docker"), needs).filter(({ group }) => group === "GPU");
    expect(gpu.map(({ code }) => code)).toEqual(["no-gpu"]);
  });

  test("what containers lack for a GPU stops only those who require one", () => {
    const levels = (wanted: NodeNeeds): unknown =>
      judgeNode(factsOf("bare-ubuntu"), wanted)
        .filter(({ group, level }) => group === "GPU" && level !== "ok")
        .map(({ code, level }) => `${level} ${code}`);
    const codes = ["driver-missing", "container-toolkit-missing", "cdi-spec-missing"];
    expect(levels(needs)).toEqual(codes.map((code) => `blocker ${code}`));
    expect(levels(maybe)).toEqual(codes.map((code) => `warning ${code}`));
  });

  test("a node of services on the CPU hears nothing of CDI, toolkit, holds and persistence", () => {
    const groups = judgeNode(factsOf("bare-ubuntu"), onCpu).filter(({ group }) => group === "GPU");
    expect(groups.map(({ code, level }) => [code, level])).toEqual([["driver-missing", "ok"]]);
  });

  test("without root a node can be deployed to all the same when Docker takes the user", () => {
    const found = judgeNode(factsOf("t4-ubuntu", { sudo: [1, "sudo: a password is required"] }), needs);
    expect(found.find(({ code }) => code === "no-root")).toMatchObject({ level: "warning" });
  });

  test("too little memory stops a deploy only where the whole machine has too little", () => {
    const level = (total: number): unknown =>
      judgeNode(
        factsOf("t4-ubuntu", { memory: [0, `MemTotal: ${total.toString()} kB\nMemAvailable: 1000000 kB\n`] }),
        needs,
      ).find(({ code }) => code === "memory-low")?.level;
    expect([level(8_000_000), level(2_000_000)]).toEqual(["warning", "blocker"]);
  });
});

describe("disk", () => {
  const disk = (kibibytes: number, wanted = needs): unknown =>
    judgeNode(
      factsOf("t4-ubuntu", {
        "docker-disk": [0, `/var/lib/docker\n${df(kibibytes)}`],
        "data-disk": [0, `folder\nwritable\n${df(kibibytes)}/var/lib/gpuctl\n`],
      }),
      wanted,
    )
      .filter(({ code }) => code.startsWith("disk"))
      .map(({ code, what }) => `${code}: ${what}`);

  test("images and models on one file system need their sum and a fifth", () => {
    // 9.0 + 2.3 GB and a fifth are 13.56 GB: 13,242,187.5 KiB.
    expect(disk(13_242_188)).toEqual(["disk: /var/lib/docker: 13.6 GB free for images, models and records"]);
    expect(disk(13_242_187)).toEqual(["disk-full: /var/lib/docker: 13.6 GB free for images, models and records"]);
  });

  test("with containerd's store, images need room where containerd keeps them", () => {
    const output = `/var/lib/docker\n${df(9e8)}/var/lib/containerd\n${df(1e6).replaceAll("nvme0n1p2", "sdb1")}`;
    const facts = factsOf("t4-ubuntu", {
      "docker-info": info({ DriverStatus: [["driver-type", "io.containerd.snapshotter.v1"]] }),
      "docker-disk": [0, output],
    });
    expect(judgeNode(facts, needs).find(({ code }) => code === "disk-full")?.what).toBe(
      "/var/lib/containerd: 1.0 GB free for images",
    );
  });
});

describe("what a driver upgrade under running containers looks like", () => {
  test("libraries of another version stop a deploy even while nvidia-smi still answers", () => {
    const found = judgeNode(
      factsOf("t4-ubuntu", { library: [0, "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.105.08\n"] }),
      needs,
    );
    expect(found.find(({ code }) => code === "driver-mismatch")).toMatchObject({ level: "blocker", nextSteps: ["sudo reboot"] });
  });

  test("an old specification in /etc/cdi does no harm behind a fresh one in /var/run/cdi", () => {
    const both = spec("/etc/cdi/nvidia.yaml", "570.172.08") + spec("/var/run/cdi/nvidia.yaml", "580.95.05");
    expect(tally(judgeNode(factsOf("t4-ubuntu", { "cdi-files": [0, both] }), needs))).toEqual({ blockers: 0, warnings: 0 });
  });
});

describe("holds", () => {
  const held = (unattended: string): unknown =>
    judgeNode(factsOf("t4-ubuntu", { holds: [0, ""], unattended: [0, unattended] }), needs).find(
      ({ code }) => code.startsWith("driver-") && code.endsWith("held"),
    )?.code;

  test("are not needed for what unattended-upgrades leaves alone by a plain pattern", () => {
    const on = 'APT::Periodic::Unattended-Upgrade "1";\n';
    const all = ["nvidia-", "libnvidia-", "linux-modules-nvidia-.*"]
      .map((name) => `Unattended-Upgrade::Package-Blacklist:: "${name}";\n`)
      .join("");
    expect(held(on + all)).toBe("driver-held");
    expect(held(on + all.replace('"libnvidia-"', '"libnvidia-compute$"'))).toBe("driver-not-held");
    expect(held(on + all.replace('"libnvidia-"', '"(lib)+nvidia"'))).toBe("driver-not-held");
  });
});

describe("exposure", () => {
  const exposure = (wanted: Partial<NodeNeeds>, changes: Changes = {}): unknown =>
    judgeNode(factsOf("t4-ubuntu", changes), want(wanted)).find(({ code }) =>
      ["exposure", "port-exposed", "port-public"].includes(code),
    )?.code;

  test("loopback and an address inside the allowed networks are fine; a wildcard on a public interface is not", () => {
    expect(exposure({ bind: "10.0.0.5" })).toBe("exposure");
    expect(exposure({ bind: "127.0.0.1" })).toBeUndefined();
    expect(exposure({ bind: "10.0.0.5", allow: ["10.9.0.0/16"] })).toBe("port-exposed");
    expect(exposure({ bind: "203.0.113.7" })).toBe("port-exposed");
    expect(exposure({ bind: "203.0.113.7", allow: ["0.0.0.0/0"] })).toBe("exposure");
    expect(exposure({ bind: "203.0.113.7", allow: null, services: [cuda({ keys: false })] })).toBe("port-public");
    expect(exposure({ bind: "10.0.0.5", allow: null, services: [cuda({ keys: false })] })).toBe("exposure");
  });

  test("a refusal in DOCKER-USER counts, Docker's own empty chain does not", () => {
    const rule = "-A DOCKER-USER ! -s 10.0.0.0/24 -i enp1s0 -j DROP\n-A DOCKER-USER -j RETURN\n";
    expect(exposure({ bind: "0.0.0.0" }, { "docker-user": [0, rule] })).toBe("exposure");
    expect(exposure({ bind: "0.0.0.0" }, { "docker-user": [0, "-N DOCKER-USER\n"] })).toBe("port-exposed");
  });

  test("the bridge of containers is no way in from outside", () => {
    const bridge = "2: eth0    inet 10.0.0.5/24 scope global eth0\n3: docker0    inet 172.17.0.1/16 scope global docker0\n";
    expect(exposure({ bind: "0.0.0.0" }, { addresses: [0, bridge] })).toBe("exposure");
  });

  test("our own containers are not reported as passing by ufw", () => {
    const codes = judgeNode(factsOf("t4-ubuntu"), want({ bind: "0.0.0.0" })).map(({ code }) => code);
    expect(codes).not.toContain("docker-bypasses-ufw");
  });
});
