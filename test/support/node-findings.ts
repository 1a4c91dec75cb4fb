/** Every finding that `gpuctl doctor --environment NAME` can print of a node, from variations of what its script, its engine and ssh say. */
import { LocalExecutor } from "../../cli/src/adapters/exec/local-executor.js";
import { cannotConnect, connectionLost, noShell } from "../../cli/src/adapters/ssh/unreachable.js";
import { settingsOf } from "../../cli/src/adapters/ssh/host-settings.js";
import { inspectNodes } from "../../cli/src/app/doctor-nodes.js";
import type { EnvironmentConfig, ServiceConfig } from "../../cli/src/domain/config/resolved.js";
import type { DoctorFinding } from "../../cli/src/domain/doctor/finding.js";
import { TargetUnreachable } from "../../cli/src/domain/errors.js";
import type { GpuContainerProbe, GpuContainerResult } from "../../cli/src/domain/preflight/gpu-container.js";
import { ms } from "../../cli/src/domain/units.js";
import type { Executor } from "../../cli/src/ports.js";
import type { NodeInspector } from "../../cli/src/ports/node-inspector.js";
import { needs as wanted, factsOf, type Capture, type Changes } from "../unit/preflight/captures.js";
import { cases, container, cuda, df, info, judged, spec, want, type Case } from "../unit/preflight/cases.js";
import { projectConfig } from "./project-config.js";

const unseenGpu = "GPU-00000000-0000-0000-0000-000000000000";
const silent = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n";
const disk = (name: string, kibibytes: number): Changes => ({ "docker-disk": [0, `${name}\n${df(kibibytes)}`] });
const t4 = (changes: Changes, needs = wanted): Case => ["ok", "t4-ubuntu", changes, needs];

const ingress = { name: "ingress", port: 443, inside: 8443, tls: true, keys: true } as const;

/** Branches of messages that the table of codes, one node for each code, does not take. */
const more: readonly Case[] = [
  t4({ identity: [1, ""], sudo: [1, "sudo: a password is required"] }),
  t4({ clock: [0, "1795258593.5"] }),
  t4({ clock: [0, "1795257900.5"] }),
  t4({ clock: [0, "1795258093.5"], synchronised: [0, "NTPSynchronized=no\n"] }),
  t4({ clock: [0, "1795257990.25"], synchronised: [0, "NTPSynchronized=no\n"] }),
  t4({ memory: [0, "MemTotal: 2000000 kB\nMemAvailable: 1000000 kB\n"] }),
  t4({ "data-disk": [0, `file\nwritable\n${df(9e8)}/var/lib/gpuctl\n`] }),
  t4({ "data-disk": [0, `folder\nwritable\n${df(9e5).replaceAll("nvme0n1p2", "sdb1")}/var/lib/gpuctl\n`] }),
  t4({ "data-disk": [1, ""], ...disk("/var/lib/docker", 9e6) }),
  t4({ "docker-disk": [1, ""], "data-disk": [1, ""] }),
  t4({ "smi-query": [0, "No devices were found\n"] }),
  t4({ "smi-query": [9, silent], "kernel-log": [0, "nvidia: module verification failed: Key was rejected by service\n"] }),
  t4({ "smi-query": [2, 'Field "compute_cap" is not a valid field to query.\n'] }),
  t4({ library: [0, "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.105.08\n"] }),
  t4({ "gpu-owners": [0, ""], "smi-apps": [0, ""] }, want({ services: [cuda({ vramMiB: 15_000 })] })),
  t4({ "kernel-log": [0, [48, 79].map((code) => `[1.0] NVRM: Xid (PCI:0000:65:00): ${code.toString()}, x\n`).join("")] }),
  t4({ "cdi-files": [0, spec("/var/run/cdi/nvidia.yaml", "570.172.08")] }),
  t4({ "docker-info": info({ DiscoveredDevices: [] }) }, want({ services: [cuda({ gpu: null })] })),
  t4({ "docker-ps": container("cache", "0.0.0.0:8002->6379/tcp") }),
  t4(
    { "docker-info": info({ DiscoveredDevices: [] }) },
    want({ services: [cuda(), cuda({ name: "embedder", gpu: unseenGpu })] }),
  ),
  t4(
    {},
    want({
      services: [],
      entrances: [ingress],
      promised: { gpus: { expected: 0, product: null, memory: null }, ports: [8001], by: "stack prod" },
    }),
  ),
  t4({ "docker-info": info({ Driver: "devicemapper", LiveRestoreEnabled: false }) }),
  t4({
    "docker-version": [0, JSON.stringify({ Client: { Version: "24.0.9" }, Server: { Version: "24.0.9" } })],
    "docker-access": [0, "sudo\n24.0.9\n"],
  }),
];

/** What services want, and the same when they would also take a CPU. */
function bothWays(one: Case, code: string): DoctorFinding[] {
  const [level, capture, changes, needs = wanted] = one;
  const services = needs.services.map((each) => ({ ...each, device: { ...each.device, require: null } }));
  const softer: Case = [level, capture, changes, { ...needs, services }];
  return [...judged(one, code), ...judged(softer, code)];
}

/** Words of Docker, runc, the toolkit and the driver, one for each explanation. */
const refusals: readonly string[] = [
  "Failed to initialize NVML: Driver/library version mismatch",
  "docker: Error response from daemon: No such image: nosuch:1",
  "docker: Error response from daemon: CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all",
  'docker: Error response from daemon: could not select device driver "cdi" with capabilities: []',
  'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]]',
  'CDI device injection failed: failed to inject devices: failed to stat CDI host device "/dev/nvidia0": no such file or directory',
  "error running hook #0: fork/exec /usr/bin/nvidia-cdi-hook: no such file or directory",
  'error mounting "/usr/lib/x86_64-linux-gnu/libcuda.so.570.172.08" to rootfs',
  "error running hook #0: error running hook: exit status 1",
  "Failed to initialize NVML: Unknown Error",
  silent,
  "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.",
  "something nobody has seen before",
];

const reserved = "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d";
const ended = (code: number, stdout: string, stderr = ""): GpuContainerResult => ({ code, stdout, stderr });

/** How a container that is started with the GPU may end. */
const endings: readonly (readonly [GpuContainerResult, look?: GpuContainerProbe["look"]])[] = [
  [null],
  [ended(0, "")],
  [ended(0, `GPU 0: Tesla T4 (UUID: ${unseenGpu})\n`)],
  [ended(0, "device node /dev/nvidiactl\n"), "device-nodes"],
  ...refusals.map((said) => [ended(125, "", said)] as const),
];

const signal = new AbortController().signal;

function environment(require: "cuda" | null): EnvironmentConfig {
  const reranker: ServiceConfig = {
    service: "reranker",
    port: 8002,
    model: "bge-m3",
    device: { prefer: "cuda", require, proof: "self" },
    vramBudget: null,
    slo: null,
    env: {},
    secrets: {},
    benchmarkGate: null,
    gpu: reserved,
  };
  return {
    ...projectConfig("/p"),
    target: "compose",
    targetSettings: { target: "compose", nodes: { "gpu-1": { host: "10.0.0.5" } } },
    services: { reranker },
  };
}

/** The report on a good node whose containers end in this way. */
async function findingsOfContainer(
  result: GpuContainerResult,
  look: GpuContainerProbe["look"],
  present = true,
): Promise<readonly DoctorFinding[]> {
  const nodes: NodeInspector = {
    inspect: async () => factsOf("t4-ubuntu"),
    hasImage: async () => present,
    tryGpu: async (_, probe) => ({ probe: { ...probe, name: "p", look }, result }),
    repair: async () => null,
  };
  const reports = [environment("cuda"), environment(null)].map((config) =>
    inspectNodes({ config, nodes, models: [], gpuImage: "services:1", repair: false, signal }),
  );
  return (await Promise.all(reports))
    .flat()
    .flatMap(({ findings }) => findings.filter(({ code }) => code.startsWith("gpu-container")));
}

const address = { node: "gpu-1", user: "root", host: "10.0.0.5", alias: "10.0.0.5", port: 22 };

/** The error with which an attempt ends. Throws when it succeeds. */
async function failureOf(attempt: Promise<unknown>): Promise<TargetUnreachable> {
  const error: unknown = await attempt.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (error instanceof TargetUnreachable) return error;
  throw new Error("it was to fail as unreachable", { cause: error });
}

/** Asks for the settings of a node where `ssh -G` ends with a status; 127 where there is no ssh. */
function settings(code: number, configFile: string): Promise<unknown> {
  const executor = { run: async () => ({ code, signal: null, stdout: "", stderr: "" }) } as unknown as Executor;
  return settingsOf(
    { name: "gpu-1", host: "10.0.0.5" },
    { client: "node-ssh", knownHosts: null, connectTimeout: ms(1000), acceptNew: false },
    { env: {}, executor, projectFile: "/p/gpuctl.yaml", configFiles: [configFile] },
    signal,
  );
}

/** What is thrown when a node cannot be asked, made by what throws it. */
async function failures(): Promise<readonly TargetUnreachable[]> {
  return [
    cannotConnect(address, "there is no route to it"),
    connectionLost(address, "sh ran", null),
    noShell(address, "This account is not available."),
    await failureOf(settings(255, "/nowhere/config")),
    await failureOf(settings(127, process.execPath)),
    await failureOf(new LocalExecutor({}).run({ argv: ["/nowhere/sh"] }, { deadline: ms(5000) })),
  ];
}

/** The report on a node that throws. */
async function findingsOfFailure(failure: TargetUnreachable): Promise<readonly DoctorFinding[]> {
  const nodes = { inspect: async () => Promise.reject(failure) } as unknown as NodeInspector;
  const [report] = await inspectNodes({
    config: environment("cuda"),
    nodes,
    models: [],
    gpuImage: "services:1",
    repair: false,
    signal,
  });
  return report?.findings ?? [];
}

const whole: readonly Capture[] = [
  "t4-ubuntu",
  "after-upgrade",
  "bare-ubuntu",
  "wsl2",
  "no-rights",
  "debian-root",
  "debian-user",
  "busybox",
];

/** Everything doctor can say about a node. */
export async function findingsOfNodes(): Promise<DoctorFinding[]> {
  const thrown = await failures();
  return [
    ...whole.flatMap((capture) => bothWays(["ok", capture, {}], "")),
    ...Object.entries(cases).flatMap(([code, one]) => bothWays(one, code)),
    ...more.flatMap((one) => bothWays(one, "")),
    ...(await Promise.all(endings.map(([result, look]) => findingsOfContainer(result, look ?? "nvidia-smi")))).flat(),
    ...(await findingsOfContainer(null, "nvidia-smi", false)),
    ...(await Promise.all(thrown.map(findingsOfFailure))).flat(),
  ];
}
