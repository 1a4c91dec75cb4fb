import type { DoctorFinding } from "../../../cli/src/domain/doctor/finding.js";
import { judgeNode } from "../../../cli/src/domain/preflight/judge.js";
import type { NodeNeeds, ServiceNeeds } from "../../../cli/src/domain/preflight/needs.js";
import { readNodeFacts } from "../../../cli/src/domain/preflight/read-facts.js";
import { moment, needs, outputOf, printed, service, type Capture, type Changes } from "./captures.js";

export const cuda = (changes: Partial<ServiceNeeds> = {}): ServiceNeeds => ({ ...service, ...changes });
export const want = (changes: Partial<NodeNeeds> = {}): NodeNeeds => ({ ...needs, ...changes });

export const info = (changes: Record<string, unknown>): readonly [number, string] => [
  0,
  JSON.stringify({ ...(JSON.parse(printed("t4-ubuntu", "docker-info")) as object), ...changes }),
];
const engine = (version: string): readonly [number, string] => [
  0,
  JSON.stringify({ Client: { Version: version }, Server: { Version: version, ApiVersion: "1.45" } }),
];
export const container = (name: string, ports: string): readonly [number, string] => [
  0,
  JSON.stringify({ ID: "77".repeat(32), Names: name, Image: "redis:8", Labels: "", Ports: ports }),
];
const smi = (line: string): readonly [number, string] => [0, line];
const t4 = "0, GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d, Tesla T4, 580.95.05, 7.5, 15360, 2310, 12606, [N/A], 0, 41, Enabled";
export const spec = (path: string, driver: string, ...more: string[]): string =>
  [
    `file 1794900000 ${path}`,
    `  host-driver-version=${driver}`,
    "  kind: nvidia.com/gpu",
    "  name: GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d",
    "  name: all",
    ...more,
    "",
  ].join("\n");
export const df = (kibibytes: number, inodes = 29_886_812): string =>
  `/dev/nvme0n1p2 479079112 1 ${kibibytes.toString()} 14% /\n/dev/nvme0n1p2 30498816 1 ${inodes.toString()} 3% /\n`;
export const noGpu: Changes = { "smi-query": [127, ""], module: [1, ""], pci: [0, "0"], modules: [0, ""] };

/** What is found at which level, on which node, changed how, by an environment that wants what. */
export type Case = readonly [level: DoctorFinding["level"], capture: Capture, changes: Changes, needs?: NodeNeeds];

/** For every code that a finding can have, a node on which it appears. */
export const cases: Readonly<Record<string, Case>> = {
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
  "compose-old": ["blocker", "t4-ubuntu", { compose: [0, "2.20.0\n"] }],
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
  "port-not-admitted": [
    "blocker",
    "t4-ubuntu",
    {},
    want({ promised: { gpus: { expected: 1, product: null, memory: null }, ports: [9001], by: "stack prod" } }),
  ],
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
  "gpus-missing": [
    "blocker",
    "t4-ubuntu",
    {},
    want({ promised: { gpus: { expected: 2, product: null, memory: null }, ports: [8001, 8002, 8003], by: "stack prod" } }),
  ],
  "gpu-other": [
    "warning",
    "t4-ubuntu",
    {},
    want({
      promised: { gpus: { expected: 1, product: "NVIDIA L4", memory: null }, ports: [8001, 8002, 8003], by: "stack prod" },
    }),
  ],
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

export const judged = ([, capture, changes, wanted]: Case, code: string): DoctorFinding[] => {
  const output = outputOf(capture, changes);
  const whole = code === "probes-incomplete" ? output.slice(0, -5) : output;
  return judgeNode(readNodeFacts(whole, null, { asked: moment, answered: moment + 500 }), wanted ?? needs);
};
