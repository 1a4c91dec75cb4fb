import { expect, test } from "vitest";
import { diagnose, doctorText, tally, type ProjectState } from "../../cli/src/domain/doctor/diagnose.js";
import { readDocker } from "../../cli/src/domain/doctor/docker-output.js";
import type { HostFacts, ProjectFacts } from "../../cli/src/domain/doctor/facts.js";
import { cpuFlags, cpuQuota, distributionName, kernelModule, wslVersion } from "../../cli/src/domain/doctor/linux-files.js";
import { smiOf } from "../support/nvidia-captures.js";

const host: HostFacts = {
  node: { version: "24.21.0", executable: "/usr/bin/node" },
  python: {
    command: "python3",
    environment: "/c/python/02764ee9c8194300-cp311/bin/python",
    state: "found",
    version: [3, 11, 7],
    executable: "/usr/bin/python3",
    venv: true,
  },
  system: {
    platform: "linux",
    release: "6.1.0-30-amd64",
    architecture: "x64",
    distribution: "Debian GNU/Linux 12 (bookworm)",
    wsl: null,
    container: false,
  },
  cpu: { model: "AMD EPYC 9354P", available: 8, quota: null, flags: ["sse4_2", "avx2", "avx512f", "avx512_vnni"] },
  memory: { totalMiB: 32_000, availableMiB: 28_000, machineMiB: 32_000 },
  disks: [
    { purpose: "state", path: "/s/gpuctl", freeBytes: 80e9, writable: true, detail: null },
    { purpose: "models", path: "/d/gpuctl/models", freeBytes: 80e9, writable: true, detail: null },
    { purpose: "cache", path: "/c/gpuctl", freeBytes: 80e9, writable: true, detail: null },
  ],
  gpu: { smi: { state: "absent" }, pciDevices: 0, kernelModule: null },
  docker: { state: "absent" },
};

const facts: ProjectFacts = {
  file: "/p/gpuctl.yaml",
  environment: "local",
  target: "process",
  services: [{ name: "embedder", prefersCuda: false, requiresCuda: false, proof: "self" }],
  models: [{ name: "all-MiniLM-L6-v2", bytes: 91e6, problem: null }],
};

const usable = (
  changes: Partial<ProjectFacts> = {},
  ports: Extract<ProjectState, { state: "usable" }>["ports"] = [],
): ProjectState => ({
  state: "usable",
  facts: { ...facts, ...changes },
  ports,
});

const requiring = [{ name: "embedder", prefersCuda: true, requiresCuda: true, proof: "process" }];

/** Machines as people have them; the whole report of each is a golden file. */
const machines: Record<string, [HostFacts, ProjectState]> = {
  "cpu-server": [
    host,
    usable({}, [{ group: "ports", level: "ok", code: "port-free", what: "embedder on 127.0.0.1:8001 is free" }]),
  ],
  "t4-server": [
    {
      ...host,
      gpu: { smi: smiOf("t4"), pciDevices: 1, kernelModule: "580.95.05" },
      docker: {
        state: "reachable",
        client: "28.5.2",
        server: "28.5.2",
        cdiDevices: ["nvidia.com/gpu=0", "nvidia.com/gpu=all"],
        runtimes: ["runc"],
      },
    },
    usable({ services: requiring, target: "compose" }),
  ],
  "wsl2-laptop": [
    {
      ...host,
      system: { ...host.system, release: "6.6.87.2-microsoft-standard-WSL2", distribution: "Ubuntu 24.04.1 LTS", wsl: 2 },
      gpu: { smi: smiOf("rtx4070-wsl2"), pciDevices: 0, kernelModule: null },
      docker: {
        state: "unreachable",
        client: "27.5.1",
        detail: "permission denied while trying to connect to the Docker daemon socket",
      },
    },
    usable({ target: "compose", services: requiring }),
  ],
  "h200-mig": [{ ...host, gpu: { smi: smiOf("h200-mig"), pciDevices: 2, kernelModule: "580.95.05" } }, { state: "absent" }],
  "after-upgrade": [
    { ...host, gpu: { smi: smiOf("mismatch"), pciDevices: 1, kernelModule: "570.172.08" } },
    usable({ services: requiring }),
  ],
  "old-card": [{ ...host, gpu: { smi: smiOf("not-supported"), pciDevices: 1, kernelModule: "535.183.01" } }, usable()],
  "lost-card": [{ ...host, gpu: { smi: smiOf("lost"), pciDevices: 2, kernelModule: "580.95.05" } }, usable()],
  "nothing-works": [
    {
      node: { version: "20.20.0", executable: "/usr/bin/node" },
      python: {
        command: "python3",
        environment: null,
        state: "found",
        version: [3, 9, 2],
        executable: "/usr/bin/python3",
        venv: true,
      },
      system: { platform: "linux", release: "5.10.0", architecture: "x64", distribution: null, wsl: null, container: true },
      cpu: { model: "QEMU Virtual CPU version 2.5+", available: 2, quota: 0.5, flags: ["sse2"] },
      memory: { totalMiB: 512, availableMiB: 300, machineMiB: 16_000 },
      disks: [
        { purpose: "state", path: "/s/gpuctl", freeBytes: null, writable: false, detail: "/s: the file system is read-only" },
        { purpose: "models", path: "/d/gpuctl/models", freeBytes: 50e6, writable: true, detail: null },
        { purpose: "cache", path: "/c/gpuctl", freeBytes: 1.2e9, writable: true, detail: null },
      ],
      gpu: { smi: { state: "absent" }, pciDevices: 1, kernelModule: null },
      docker: { state: "absent" },
    },
    usable(
      {
        target: "process",
        services: requiring,
        models: [
          {
            name: "m",
            bytes: null,
            problem: { because: "gpuctl.lock.json does not pin it", nextSteps: ["gpuctl models fetch"] },
          },
        ],
      },
      [
        {
          group: "ports",
          level: "blocker",
          code: "port-taken",
          what: "embedder on 127.0.0.1:8001 is taken",
          because: "pid 12 (nginx) listens there",
          nextSteps: ["ss -ltnp 'sport = :8001'"],
        },
      ],
    ),
  ],
};

test.each(Object.entries(machines))("the report of %s", async (name, [facts, project]) => {
  await expect(`${doctorText(diagnose(facts, project))}\n`).toMatchFileSnapshot(`../golden/doctor/${name}.txt`);
});

test("every finding that is not fine says why and what to type, and codes are unique among blockers of one machine", () => {
  for (const [facts, project] of Object.values(machines)) {
    const findings = diagnose(facts, project);
    for (const finding of findings) {
      if (finding.level === "ok") continue;
      expect(finding.because, finding.what).toBeTruthy();
      expect(finding.nextSteps?.length, finding.what).toBeGreaterThan(0);
    }
  }
});

test.each([
  ["absent", { state: "absent" }],
  ["no-devices", { state: "no-devices" }],
  ["mismatch", smiOf("mismatch")],
  ["not loaded", smiOf("driver-not-loaded")],
  ["too old", smiOf("too-old")],
  ["unknown error", smiOf("unknown-error")],
  ["hangs", { state: "hangs", seconds: 10 }],
] as const)("a driver in the state %s blocks only those who require cuda", (_, smi) => {
  const gpu = { smi, pciDevices: 0, kernelModule: null };
  const blockers = (services: ProjectFacts["services"]): number =>
    tally(diagnose({ ...host, gpu }, usable({ services, target: "compose" })).filter(({ group }) => group === "GPU")).blockers;
  expect(blockers(facts.services)).toBe(0);
  expect(blockers(requiring)).toBe(1);
});

test("no GPU is no flaw for those who never asked for one, and a warning for those who prefer it", () => {
  const level = (prefersCuda: boolean): unknown =>
    diagnose(host, usable({ services: [{ name: "embedder", prefersCuda, requiresCuda: false, proof: "self" }] })).find(
      ({ group }) => group === "GPU",
    )?.level;
  expect(level(false)).toBe("ok");
  expect(level(true)).toBe("warning");
});

test("an old Python is no blocker once the services' environment exists", () => {
  const python: HostFacts["python"] = {
    command: "python3",
    environment: null,
    state: "found",
    version: [3, 9, 2],
    executable: "/usr/bin/python3",
    venv: true,
  };
  expect(tally(diagnose({ ...host, python }, usable())).blockers).toBe(1);
  expect(tally(diagnose({ ...host, python: { ...python, environment: "/c/bin/python" } }, usable())).blockers).toBe(0);
});

test("VNNI has two names on Intel and AMD, and another on ARM", () => {
  const features = (flags: string[], architecture = "x64"): string =>
    diagnose({ ...host, cpu: { ...host.cpu, flags }, system: { ...host.system, architecture } }, usable()).find(({ code }) =>
      code.startsWith("cpu-features"),
    )?.what ?? "";
  expect(features(["avx2", "avx_vnni"])).toContain("fast INT8");
  expect(features(["avx2"])).toContain("no VNNI");
  expect(features(["asimd", "asimddp"], "arm64")).toContain("dot product (fast INT8)");
});

test("files of Linux are read as they are on other machines", () => {
  expect(cpuFlags("processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\n")).toEqual(["fpu", "avx2", "avx512_vnni"]);
  expect(cpuFlags("Features\t: fp asimd asimddp\n")).toEqual(["fp", "asimd", "asimddp"]);
  expect(cpuFlags("")).toBeNull();
  expect([cpuQuota("max 100000\n"), cpuQuota("150000 100000\n"), cpuQuota("")]).toEqual([null, 1.5, null]);
  expect(wslVersion("Linux version 6.6.87.2-microsoft-standard-WSL2 (root@…)")).toBe(2);
  expect(wslVersion("Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)")).toBe(1);
  expect(wslVersion("Linux version 6.1.0-30-amd64 (debian-kernel@…)")).toBeNull();
  expect(distributionName('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')).toBe(
    "Debian GNU/Linux 12 (bookworm)",
  );
  expect(kernelModule("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder)\n")).toBe(
    "580.95.05",
  );
});

test("Docker's answers: reachable with CDI, older with a specification file, without an engine, and without sense", () => {
  const version = { code: 0, stdout: '{"Client":{"Version":"28.5.2"},"Server":{"Version":"28.5.2"}}', stderr: "" };
  const info = {
    code: 0,
    stdout: '{"Runtimes":{"runc":{}},"DiscoveredDevices":[{"Source":"cdi","ID":"nvidia.com/gpu=0"}]}',
    stderr: "",
  };
  expect(readDocker(version, info, [])).toEqual({
    state: "reachable",
    client: "28.5.2",
    server: "28.5.2",
    cdiDevices: ["nvidia.com/gpu=0"],
    runtimes: ["runc"],
  });
  expect(readDocker(version, { code: 0, stdout: "{}", stderr: "" }, ["nvidia.com/gpu=all"])).toMatchObject({
    cdiDevices: ["nvidia.com/gpu=all"],
  });
  const down = {
    code: 1,
    stdout: '{"Client":{"Version":"28.5.2"},"Server":null}',
    stderr: "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.\n",
  };
  expect(readDocker(down, null, [])).toEqual({
    state: "unreachable",
    client: "28.5.2",
    detail: "Cannot connect to the Docker daemon at unix:///var/run/docker.sock",
  });
  expect(readDocker({ code: 0, stdout: "<html>", stderr: "" }, null, [])).toMatchObject({ state: "unreachable" });
});

test("the process target never lets a card pass for a device: its engine runs on the CPU", () => {
  const gpu = { smi: smiOf("t4"), pciDevices: 1, kernelModule: "580.95.05" };
  const found = (services: ProjectFacts["services"]): unknown =>
    diagnose({ ...host, gpu }, usable({ services })).find(({ code }) => code === "engine-without-cuda")?.level;
  expect(found(requiring)).toBe("blocker");
  expect(found([{ name: "embedder", prefersCuda: true, requiresCuda: false, proof: "self" }])).toBe("warning");
  expect(found(facts.services)).toBe("ok");
});

test("a full disk stops only what has still to be written", () => {
  const full = { ...host, disks: host.disks.map((disk) => ({ ...disk, freeBytes: 1e6 })) };
  const levels = (facts: HostFacts, project: ProjectState): unknown[] =>
    diagnose(facts, project)
      .filter(({ group }) => group === "storage")
      .map(({ level }) => level);
  expect(levels(full, usable())).toEqual(["blocker", "warning", "warning"]);
  const missing = [{ name: "m", bytes: null, problem: { because: "absent", nextSteps: ["gpuctl models fetch"] } }];
  const bare = { ...full, python: { ...full.python, environment: null } };
  expect(levels(bare, usable({ models: missing }))).toEqual(["blocker", "blocker", "blocker"]);
});
